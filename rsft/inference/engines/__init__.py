"""Engines that compute a network's outputs, and export formats.

Each of them is one class in a registry.
"""

__all__ = ["onnx", "pytorch"]  # the modules with a class in the registry
