"""Signatures of bundles and exports."""
