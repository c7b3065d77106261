"""Trackers that come with rsft."""
