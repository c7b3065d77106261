"""Cards: descriptions of encoders that are available before any weights are read. This module imports no torch."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from rsft.errors import RequestError
from rsft.utils.licenses import license_restrictions

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer
    from torch import Tensor

State: TypeAlias = "Mapping[str, Tensor]"
"""Name -> tensor."""


@dataclass(frozen=True)
class Remote:
    """A published weights file.

    Attributes:
        file: its name in the weights folder.
        url: download address; None if the file must be fetched by hand.
        bytes: published size; None if unknown.
        sha256: published SHA-256, or the leading digits that the publisher gives; None if unknown.
        page: web page about the file.
        md5: published MD5, where the publisher (Zenodo) gives no SHA-256.
    """

    file: str
    url: str | None
    bytes: int | None
    sha256: str | None
    page: str
    md5: str | None = None


@dataclass(frozen=True)
class Card:
    """The description of an encoder that `load_backbone` can load.

    Attributes:
        name: the name in a recipe.
        about: one line with architecture and training data.
        size: side of the native input, in pixels.
        patch: side of a patch, in pixels; in a network without patches, of the region of one feature vector.
        bands: names of the input planes, in order.
        unit: unit of `mean` and `std`: "uint8" for bytes scaled to 0-1, else a unit of `rsft.data.imagery`.
        mean: mean of each input plane in pre-training.
        std: standard deviation of each input plane in pre-training.
        license: SPDX identifier of the weights' license, or free text; `restrictions` are derived from it.
        weights: a file in this package, or a published one.
        build: maps an input size to the architecture with random weights and without a head. It raises RequestError if
            the size is not a multiple of the patch side.
        convert: maps the tensors of a checkpoint to those of `build(size)`. It drops the tensors that the encoder is
            known not to use. The loader refuses a checkpoint with any other surplus tensor. Tensors are not copied.
        antialias: whether to resample the position embedding with antialiasing. timm does, many publishers do not.
        sensor: source of the images in pre-training.
    """

    name: str
    about: str
    size: int
    patch: int
    bands: tuple[str, ...]
    unit: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    license: str
    weights: Path | Remote
    build: Callable[[int], VisionTransformer]
    convert: Callable[[State], dict[str, Tensor]] = dict
    antialias: bool = True
    sensor: str = "photographs"

    @property
    def restrictions(self) -> tuple[str, ...]:
        """What the license of the weights does not allow: names of `rsft.utils.licenses.RESTRICTIONS`."""
        return license_restrictions(self.license)


def check_input_size(name: str, patch: int, size: int) -> None:
    """Raise an error unless the side of the input is a multiple of the side of a patch.

    Args:
        name: name of the encoder, for the message.
        patch: side of a patch, in pixels.
        size: side of the input, in pixels.

    Raises:
        RequestError: `size` is not a positive multiple of `patch`.
    """
    if size < patch or size % patch:
        closest = max(patch, round(size / patch) * patch)
        raise RequestError(
            f"{name} takes input sides that are multiples of {patch}, not {size}", "size", f"try {closest}"
        )


def drop_tensors(state: State, *names: str) -> dict[str, Tensor]:
    """Return `state` without some tensors.

    Args:
        state: name -> tensor.
        *names: names of tensors to drop, or of modules whose tensors are dropped.

    Returns:
        Name -> tensor for the remaining tensors, without copies.
    """
    modules = tuple(f"{name}." for name in names)
    return {key: value for key, value in state.items() if key not in names and not key.startswith(modules)}


def with_first_blocks(card: Card, blocks: int) -> Card:
    """Return the card of a shorter encoder, which keeps only the first transformer blocks.

    Args:
        card: the card of the whole encoder. Its weights file may contain all blocks, or only the first ones.
        blocks: number of blocks to keep, 1 or more. The final norm stays.

    Returns:
        A card with the same name. Its `build` raises RequestError if the encoder has fewer blocks, or has stages.
    """

    def build(size: int) -> VisionTransformer:
        from torch import nn

        vit = card.build(size)
        if not hasattr(vit, "blocks"):
            message = f"{card.name} has stages of different resolution, so its first blocks are no encoder"
            raise RequestError(message, "backbone.blocks", "leave the key out")
        if blocks > len(vit.blocks):
            raise RequestError(f"{card.name} has {len(vit.blocks)} blocks, not {blocks}", "backbone.blocks")
        vit.blocks = nn.Sequential(*list(vit.blocks.children())[:blocks])
        return vit

    def convert(state: State) -> dict[str, Tensor]:
        tensors = card.convert(state)
        indices = {int(match[1]) for name in tensors if (match := re.match(r"blocks\.(\d+)\.", name))}
        return drop_tensors(tensors, *(f"blocks.{index}" for index in indices if index >= blocks))

    return replace(card, about=f"{card.about}; the first {blocks} blocks", build=build, convert=convert)
