"""Uncertainty of predictions: calibrated probabilities, sets of classes, and out-of-distribution chips."""
