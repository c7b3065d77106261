"""Runs that are compared: trials, their outcomes, and the choice among recipes."""
