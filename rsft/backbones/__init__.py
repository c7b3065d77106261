"""Frozen encoders, which are found by name and loaded completely or not at all."""

from rsft.backbones.input_layer import fit_inputs
from rsft.backbones.registry import Backbone, load_backbone, names

__all__ = ["Backbone", "fit_inputs", "load_backbone", "names"]
