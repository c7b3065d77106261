"""Classify chips or scenes with a bundle, and write a table of predictions."""
