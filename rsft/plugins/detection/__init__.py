"""Detect bright objects in scenes without a bundle."""
