"""Inspection of bundles: describe, verify and compare."""
