"""Evaluate a bundle on labeled chips.

Accuracy, calibration, baselines, paired comparisons and the HTML report.
"""
