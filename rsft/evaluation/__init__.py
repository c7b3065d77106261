"""Evaluate a bundle on labeled chips: accuracy, calibration, baselines, paired comparisons and the HTML report."""
