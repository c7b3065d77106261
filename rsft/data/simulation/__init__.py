"""Simulated SAR and optical images of ships."""
