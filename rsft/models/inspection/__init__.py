"""Inspection of bundles: describe and verify."""
