"""What is known of an encoder before a byte of its weights is read."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from rsft.errors import RequestError

State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Remote:
    """A published weights file.

    Attributes:
        file: its name in the folder of weights.
        url: where it is fetched from; None where it must be fetched by hand.
        bytes: its size, as far as published.
        sha256: as far as published; the whole digest, or the leading digits that its publisher gives.
        page: where a person reads about it and may fetch it.
        md5: as far as published; Zenodo gives no other.
    """

    file: str
    url: str | None
    bytes: int | None
    sha256: str | None
    page: str
    md5: str | None = None


@dataclass(frozen=True)
class Card:
    """An encoder that `load_backbone` knows.

    Attributes:
        name: as a recipe names it.
        about: one line: architecture and what it was trained on.
        size, patch: sides in pixels of the native input and of a patch.
        bands: names of the input planes, in order.
        unit: what `mean` and `std` are in: "uint8" for bytes as 0-1, else a unit of `rsft.data.imagery`.
        mean, std: of the input planes in training, one a band.
        licence: of the weights, in words of SPDX where it has them.
        weights: the file in this package, or a published one.
        build: input side -> the architecture, with random weights and without a head; a side that the patches do not
            divide is a RequestError.
        convert: the checkpoint's tensors -> those of `build(size)`, under its names; what is expected to be left over
            is dropped there, anything else stays and is refused by the loader. Converted tensors stay as they are.
        antialias: whether positions are resampled with antialiasing, as timm does; many publishers do not.
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


def check_input_size(name: str, patch: int, size: int) -> None:
    """Whether patches of `patch` pixels divide an input of `size`.

    Raises:
        RequestError: they do not, or `size` is not positive.
    """
    if size < patch or size % patch:
        near = max(patch, round(size / patch) * patch)
        raise RequestError(f"{name} takes input sides that are multiples of {patch}, not {size}", "size", f"try {near}")


def drop_tensors(state: State, *names: str) -> dict[str, Tensor]:
    """The tensors of `state` that are neither one of `names` nor inside a module of that name."""
    modules = tuple(f"{name}." for name in names)
    return {key: value for key, value in state.items() if key not in names and not key.startswith(modules)}


def with_first_blocks(card: Card, blocks: int) -> Card:
    """Return the card of the encoder that keeps the first `blocks` transformer blocks and the final norm of `card`.

    Args:
        card: the whole encoder. Its weights file may hold all blocks, or only the first ones.
        blocks: how many blocks stay, 1 or more.
    """

    def build(size: int) -> VisionTransformer:
        vit = card.build(size)
        if blocks > len(vit.blocks):
            raise RequestError(f"{card.name} has {len(vit.blocks)} blocks, not {blocks}", "backbone.blocks")
        vit.blocks = vit.blocks[:blocks]
        return vit

    def convert(state: State) -> dict[str, Tensor]:
        tensors = card.convert(state)
        indices = {int(match[1]) for name in tensors if (match := re.match(r"blocks\.(\d+)\.", name))}
        return drop_tensors(tensors, *(f"blocks.{index}" for index in indices if index >= blocks))

    return replace(card, about=f"{card.about}; the first {blocks} blocks", build=build, convert=convert)
