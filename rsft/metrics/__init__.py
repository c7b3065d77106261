"""Metrics: accuracy by group, bootstrap intervals, calibration and coverage. They take arrays and return numbers."""
