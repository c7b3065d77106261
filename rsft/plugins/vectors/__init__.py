"""Vectors of any encoder in place of images."""
