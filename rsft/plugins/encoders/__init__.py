"""Encoders with an architecture of their own."""
