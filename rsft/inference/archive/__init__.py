"""Classify whole archives of scenes, on one machine or on a cluster."""
