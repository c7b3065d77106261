"""Frozen encoders that load whole or not at all."""

from rsft.backbones.registry import Backbone, load_backbone, names

__all__ = ["Backbone", "load_backbone", "names"]
