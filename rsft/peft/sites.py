"""A site is one linear map of the network that can be adapted: (block, position)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

from torch import Tensor, nn

POSITIONS = ("q", "k", "v", "out", "mlp1", "mlp2")
"""Positions of a transformer block, in the order of the forward pass."""

_LETTERS = dict(zip("qkvo12", POSITIONS, strict=True))
_HOSTS = {"q": "attn.qkv", "k": "attn.qkv", "v": "attn.qkv", "out": "attn.proj", "mlp1": "mlp.fc1", "mlp2": "mlp.fc2"}


class Site(NamedTuple):
    """One (block, position) of a vision transformer."""

    block: int
    position: str

    def __str__(self) -> str:
        return f"blocks.{self.block}.{self.position}"


class Host(NamedTuple):
    """Where a site lives: a linear layer and the rows of its output that belong to the site."""

    parent: nn.Module
    name: str
    rows: slice

    @property
    def linear(self) -> nn.Module:
        """The layer at that place now."""
        layer: nn.Module = getattr(self.parent, self.name)
        return layer

    @property
    def weight(self) -> Tensor:
        """Its matrix (width_out, width_in), of which `rows` belong to the site."""
        return cast(Tensor, self.linear.weight)


def select_positions(letters: str) -> tuple[str, ...]:
    """Positions named by letters of "qkvo12", in forward order: "2q" -> ("q", "mlp2").

    Raises:
        ValueError: a letter that names no position, or none at all.
    """
    unknown = sorted(set(letters) - set(_LETTERS))
    if unknown or not letters:
        raise ValueError(f"positions {letters!r}: use letters of 'qkvo12' (query, key, value, out, mlp1, mlp2)")
    return tuple(position for letter, position in _LETTERS.items() if letter in letters)


def select_blocks(blocks: str | Sequence[int], depth: int) -> tuple[int, ...]:
    """Blocks named by "all", "last:N", "every:N" or a list of indices from 0, in order.

    Raises:
        ValueError: a form that is none of these, or an index outside of the network.
    """
    if not isinstance(blocks, str):
        outside = [index for index in blocks if not 0 <= index < depth]
        if outside or not blocks:
            raise ValueError(f"blocks {list(blocks)}: the network has blocks 0 to {depth - 1}")
        return tuple(sorted(set(blocks)))
    if blocks == "all":
        return tuple(range(depth))
    form, _, number = blocks.partition(":")
    if form in ("last", "every") and number.isdigit() and 1 <= int(number) <= depth:
        count = int(number)
        return tuple(range(depth - count, depth)) if form == "last" else tuple(range(count - 1, depth, count))
    raise ValueError(f"blocks {blocks!r}: use 'all', 'last:N', 'every:N' (1 <= N <= {depth}) or a list of indices")


def find_host(vit: nn.Module, site: Site) -> Host:
    """The layer of a timm vision transformer that computes `site`; q, k, v are thirds of the fused qkv.

    Raises:
        ValueError: the network has no such layer.
    """
    path = f"blocks.{site.block}.{_HOSTS[site.position]}"
    parent_path, _, name = path.rpartition(".")
    try:
        parent = vit.get_submodule(parent_path)
        linear = parent.get_submodule(name)
    except AttributeError:
        raise ValueError(f"{type(vit).__name__} has no {path}, so no site {site}") from None
    rows = slice(None)
    if name == "qkv":
        third = len(cast(Tensor, linear.weight)) // 3
        start = POSITIONS.index(site.position) * third
        rows = slice(start, start + third)
    return Host(parent, name, rows)
