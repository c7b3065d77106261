"""Every encoder by name."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from timm.models.vision_transformer import VisionTransformer

from rsft.backbones.embedded import load_embedded
from rsft.errors import RequestError


@dataclass(frozen=True)
class Backbone:
    """A frozen vision transformer without its head.

    Attributes:
        name: as a recipe names it.
        sha256: of the weights file.
        vit: maps (B, 3, size, size) to tokens (B, N, width) by `forward_features`.
        mean, std: of the three inputs it was trained on, in 0-1.
    """

    name: str
    sha256: str
    vit: VisionTransformer
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @property
    def width(self) -> int:
        """Features of a token."""
        return int(self.vit.embed_dim)


Loader = Callable[[int], tuple[VisionTransformer, dict[str, Any]]]  # input side -> network, its model card

_LOADERS: dict[str, Loader] = {"vit_tiny_patch8_64.simship": load_embedded}


def names() -> list[str]:
    """The encoders that `load_backbone` knows."""
    return sorted(_LOADERS)


def load_backbone(name: str, size: int) -> Backbone:
    """Load the encoder `name` for inputs of `size` x `size` pixels, frozen and in evaluation mode.

    Raises:
        RequestError: no such encoder, or an input side that its patches do not divide.
        WeightsError: weights that are missing, incomplete or altered.
    """
    if name not in _LOADERS:
        near = difflib.get_close_matches(name, names(), n=1)
        hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(names())}"
        raise RequestError(f"no backbone is called {name!r}", "backbone.name", hint)
    vit, card = _LOADERS[name](size)
    vit.requires_grad_(False).eval()
    return Backbone(name, card["sha256"], vit, tuple(card["mean"]), tuple(card["std"]))
