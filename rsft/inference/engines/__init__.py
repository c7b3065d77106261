"""Engines that compute a network's outputs, and export formats: one class each, found by name."""
