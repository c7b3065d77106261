"""Uncertainty: calibrated probabilities, class sets, and foreign chips."""
