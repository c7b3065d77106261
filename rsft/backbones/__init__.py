"""Frozen encoders, which are found by name and loaded completely or not at all.

The public names are imported when they are first used, so that the list of encoders is
read without torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rsft.backbones.input_layer import fit_inputs
    from rsft.backbones.loading import Backbone, load_backbone, names

__all__ = ["Backbone", "fit_inputs", "load_backbone", "names"]

_MODULE_OF = {
    "fit_inputs": "input_layer",
    "Backbone": "loading",
    "load_backbone": "loading",
    "names": "loading",
}


def __getattr__(name: str) -> Any:
    """Import a public name at its first use."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"rsft.backbones.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value
