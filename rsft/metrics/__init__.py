"""Metrics, which take arrays and return numbers: accuracy by group, bootstrap intervals, calibration, coverage."""
