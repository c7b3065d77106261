"""Measure predictions on long-tailed data: accuracy, intervals, comparison, sets."""
