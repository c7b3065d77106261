"""Engines that compute a network's outputs, and export formats.

Each of them is one class in a registry.
"""
