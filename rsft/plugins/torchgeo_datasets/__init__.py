"""Chip stores of the classification data sets of TorchGeo."""
