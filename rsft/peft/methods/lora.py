"""LoRA, with a pair of matrices a site, and LoTR, whose pairs are shared by all blocks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from rsft.peft.methods.adapter_module import slashed, trained_type
from rsft.peft.methods.low_rank import LowRank
from rsft.peft.methods.registry import Scales, checked_ranks, checked_rates, fixed_scales, register
from rsft.peft.sites import Host, Site, blocks_of, hosts_of, select_blocks, select_positions


@register
@dataclass(frozen=True)
class LoRA:
    """Low-rank adaptation (Hu et al. 2022, https://arxiv.org/abs/2106.09685): f(x) = (x A) B, B zero at first.

    Attributes:
        rank: r, the width between A and B; 0 for a pattern leaves its sites out.
        positions: letters of "qkvo12".
        blocks: "all", "last:N", "every:N" or indices from 0.
        scale: m_p without a modulator, a number or "1/r".
        dropout: on the input of A, in training.

    Rank, scale and dropout are one for all sites or given by pattern, {"blocks.*.q": 8, "*": 4}.
    """

    name: ClassVar[str] = "lora"
    rank: int | Mapping[str, int] = 4
    positions: str = "qkvo12"
    blocks: str | Sequence[int] = "all"
    scale: Scales = 1.0
    dropout: float | Mapping[str, float] = 0.0

    def parts(self, vit: nn.Module) -> list[LowRank]:
        """A pair of matrices at every chosen position of every chosen block."""
        ranks = _ranks(self, vit)
        hosts = hosts_of(vit, ranks)
        part = _Pairs(hosts, fixed_scales(self.scale, ranks), checked_rates(self.dropout, tuple(ranks)))
        for site, rank in ranks.items():
            part.add_module(slashed(site), _Pair(hosts[site], rank))
        return [part]


@register
@dataclass(frozen=True)
class LoTR:
    """Low tensor rank adaptation (Bershatsky et al. 2024, https://arxiv.org/abs/2402.01376): f(x) = (x A) G B.

    A and B are shared by all blocks of a position, G (r, r) is a block's own and zero at first. The attributes are
    those of `LoRA`; the rank is the same in all blocks of a position.
    """

    name: ClassVar[str] = "lotr"
    rank: int | Mapping[str, int] = 4
    positions: str = "qkvo12"
    blocks: str | Sequence[int] = "all"
    scale: Scales = 1.0
    dropout: float | Mapping[str, float] = 0.0

    def parts(self, vit: nn.Module) -> list[LowRank]:
        """A shared pair a position, and a core at every site.

        Raises:
            ValueError: ranks or layer widths that differ between the blocks of a position.
        """
        ranks = _ranks(self, vit)
        hosts = hosts_of(vit, ranks)
        shapes = {(site.position, rank, *hosts[site].weight.shape) for site, rank in ranks.items()}
        if len(shapes) > len({position for position, *_ in shapes}):
            raise ValueError("lotr shares A and B of a position between blocks: their ranks and widths must be equal")
        part = _SharedPairs(hosts, fixed_scales(self.scale, ranks), checked_rates(self.dropout, tuple(ranks)))
        for site, rank in ranks.items():
            if not hasattr(part, f"shared/{site.position}"):
                pair = _Pair(hosts[site], rank)
                nn.init.kaiming_uniform_(pair.b, a=math.sqrt(5))
                part.add_module(f"shared/{site.position}", pair)
            part.add_module(slashed(site), _Core(hosts[site], rank))
        return [part]


def _ranks(method: LoRA | LoTR, vit: nn.Module) -> dict[Site, int]:
    positions = select_positions(method.positions)
    blocks = select_blocks(method.blocks, len(blocks_of(vit)))
    return checked_ranks(method.rank, [Site(block, position) for block in blocks for position in positions])


class _Pair(nn.Module):
    """A (width_in, r) Kaiming-uniform, a = sqrt 5, and B (r, width_out) zeros.

    Both are stored transposed, as torch's initialisers and linear layers count fan-in along the last axis.
    """

    def __init__(self, host: Host, rank: int) -> None:
        super().__init__()
        width_out, width_in = host.weight.shape
        self.a = nn.Parameter(torch.empty(rank, width_in, **trained_type(host.weight)))
        self.b = nn.Parameter(torch.zeros(width_out, rank, **trained_type(host.weight)))
        nn.init.kaiming_uniform_(self.a, a=math.sqrt(5))


class _Core(nn.Module):
    """G (r, r), zeros."""

    def __init__(self, host: Host, rank: int) -> None:
        super().__init__()
        self.g = nn.Parameter(torch.zeros(rank, rank, **trained_type(host.weight)))


class _Pairs(LowRank):
    def factors(self, site: Site) -> tuple[Tensor, Tensor]:
        pair = cast(_Pair, self.get_submodule(slashed(site)))
        return pair.a, pair.b


class _SharedPairs(LowRank):
    def factors(self, site: Site) -> tuple[Tensor, Tensor]:
        pair = cast(_Pair, self.get_submodule(f"shared/{site.position}"))
        core = cast(_Core, self.get_submodule(slashed(site)))
        return pair.a, pair.b @ core.g.t()
