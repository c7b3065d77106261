"""Sweeps: run a recipe with many settings, and compare the results."""
