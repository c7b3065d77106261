"""Additive methods: what f_p is at a site. A method is a dataclass that registers itself by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, TypeVar

import torch
from torch import Tensor, nn

from rsft.peft.sites import Site, select_blocks, select_positions

Scale = Callable[[], Tensor | float]


class Method(Protocol):
    """An additive method: where it sits, how strong it is without a modulator, and its module at a site."""

    name: ClassVar[str]

    def sites(self, depth: int) -> tuple[Site, ...]:
        """The sites it adapts in a network of `depth` blocks, in forward order."""

    def fixed_scale(self) -> float:
        """The constant m_p of plain PEFT."""

    def module(self, width_in: int, width_out: int) -> Additive:
        """A new f_p from `width_in` to `width_out` features, zero at initialisation."""


class Additive(nn.Module):
    """f_p of a site, already multiplied by m_p."""

    def forward(self, x: Tensor, scale: Tensor | float) -> Tensor:
        """(B, N, width_in) -> (B, N, width_out)."""
        raise NotImplementedError

    def weight(self, scale: Tensor | float) -> Tensor:
        """m_p f_p as one float32 matrix (width_out, width_in), for merging."""
        raise NotImplementedError


METHODS: dict[str, type[Method]] = {}
"""Every known method by name."""

M = TypeVar("M", bound=type[Method])


def register(method: M) -> M:
    """Class decorator: make a method known under its `name`.

    Raises:
        ValueError: the name is taken.
    """
    if method.name in METHODS:
        raise ValueError(f"a method named {method.name!r} is registered already")
    METHODS[method.name] = method
    return method


@register
@dataclass(frozen=True)
class LoRA:
    """Low-rank adaptation (Hu et al. 2022): f(x) = (x A) B, B zero at initialisation.

    Attributes:
        rank: r, the width between A and B.
        positions: letters of "qkvo12".
        blocks: "all", "last:N", "every:N" or indices from 0.
        scale: m_p without a modulator, a number or "1/r".
        dropout: on the input of A, in training.
    """

    name: ClassVar[str] = "lora"
    rank: int = 4
    positions: str = "qkvo12"
    blocks: str | Sequence[int] = "all"
    scale: float | str = 1.0
    dropout: float = 0.0

    def sites(self, depth: int) -> tuple[Site, ...]:
        """Every chosen position of every chosen block."""
        positions = select_positions(self.positions)
        return tuple(Site(block, position) for block in select_blocks(self.blocks, depth) for position in positions)

    def fixed_scale(self) -> float:
        """The constant scale; "1/r" divides by the rank as alpha = 1 does."""
        return 1.0 / self.rank if self.scale == "1/r" else float(self.scale)

    def module(self, width_in: int, width_out: int) -> LowRank:
        """A pair of matrices of rank r."""
        return LowRank(width_in, width_out, self.rank, self.dropout)


class LowRank(Additive):
    """(x A) B with A: (width_in, r) Kaiming-uniform, a = sqrt 5, and B: (r, width_out) zeros."""

    def __init__(self, width_in: int, width_out: int, rank: int, dropout: float) -> None:
        super().__init__()
        # stored transposed, as torch's initialisers and linear layers count fan-in along the last axis
        self.a = nn.Parameter(torch.empty(rank, width_in))
        self.b = nn.Parameter(torch.zeros(width_out, rank))
        self.dropout = nn.Dropout(dropout)
        nn.init.kaiming_uniform_(self.a, a=math.sqrt(5))

    def forward(self, x: Tensor, scale: Tensor | float) -> Tensor:
        """(B, N, width_in) -> (B, N, width_out), scaled in rank space, where it is cheap."""
        return nn.functional.linear(nn.functional.linear(self.dropout(x), self.a) * scale, self.b)

    def weight(self, scale: Tensor | float) -> Tensor:
        """m B A."""
        return scale * (self.b.float() @ self.a.float())
