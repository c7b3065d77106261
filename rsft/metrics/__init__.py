"""Accuracy by group, intervals and calibration: arrays in, numbers out."""
