"""Trackers, which record the numbers of a run in addition to its tables."""
