"""Bottleneck modules at the MLP of a block: Adapter behind it, AdaptFormer beside it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rsft.peft.methods.adapter_module import Part, slashed, trained_type
from rsft.peft.methods.registry import Scales, checked_ranks, checked_rates, fixed_scales, register
from rsft.peft.sites import Site, blocks_of, select_blocks


@register
@dataclass(frozen=True)
class Adapter:
    """A bottleneck on the MLP's output y, before the residual (Houlsby et al. 2019, https://arxiv.org/abs/1902.00751):
    y + m f(y), f = up(relu(down(LN(y)))), up zero at first.

    Attributes:
        dim: h, the width of the bottleneck; 0 for a pattern leaves its blocks out.
        blocks: "all", "last:N", "every:N" or indices from 0.
        scale: m_p without a modulator, a number or "1/r".
        dropout: behind the ReLU, in training.

    Dim, scale and dropout are one for all sites or given by pattern, {"blocks.1?.mlp": 8, "*": 4}. Where a block has
    LayerScale, it acts on the sum, as it does on an addition at mlp2.
    """

    name: ClassVar[str] = "adapter"
    dim: int | Mapping[str, int] = 4
    blocks: str | Sequence[int] = "all"
    scale: Scales = 1.0
    dropout: float | Mapping[str, float] = 0.0

    def parts(self, vit: nn.Module) -> list[Bottlenecks]:
        """One bottleneck a block.

        Raises:
            ValueError: a block without an MLP, or a learnable scale.
        """
        part = Bottlenecks(self, vit, parallel=False)
        if None in part.constants.values():
            raise ValueError("scale 'learnable' is AdaptFormer's; an adapter takes a number or '1/r'")
        return [part]


@register
@dataclass(frozen=True)
class AdaptFormer:
    """A bottleneck in parallel to the MLP (Chen et al. 2022, https://arxiv.org/abs/2205.13535): its input x is the
    MLP branch's, before the norm, and m f(x) is added to the MLP's output, f = up(relu(down(LN(x)))), up zero at first.

    The attributes are those of `Adapter`; scale "learnable" trains one scalar a site with the rest, from 1, which is
    the setting of LIFT (Shi et al. 2024, https://arxiv.org/abs/2309.10019).
    """

    name: ClassVar[str] = "adaptformer"
    dim: int | Mapping[str, int] = 4
    blocks: str | Sequence[int] = "all"
    scale: Scales = 1.0
    dropout: float | Mapping[str, float] = 0.0

    def parts(self, vit: nn.Module) -> list[Bottlenecks]:
        """One bottleneck a block.

        Raises:
            ValueError: a block without an MLP behind a norm.
        """
        return [Bottlenecks(self, vit, parallel=True)]


class Bottleneck(nn.Module):
    """up(relu(down(LN(x)))) m, scaled inside the bottleneck, where it is cheap."""

    def __init__(self, width: int, dim: int, dropout: float, learnable: bool, options: dict[str, Any]) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, **options)
        self.down, self.up = nn.Linear(width, dim, **options), nn.Linear(dim, width, **options)
        self.dropout = nn.Dropout(dropout)
        self.scale = nn.Parameter(torch.ones((), **options)) if learnable else None
        nn.init.kaiming_uniform_(self.down.weight, a=math.sqrt(5))
        for tensor in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(tensor)

    def forward(self, x: Tensor, m: Tensor | float) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        m = m if self.scale is None else m * self.scale
        hidden = self.dropout(F.relu(self.down(self.norm(x))))
        return F.linear(hidden * m, self.up.weight, self.up.bias * m)


class Bottlenecks(Part):
    """A bottleneck at the MLP of every chosen block; none of them folds into the weights."""

    def __init__(self, method: Adapter | AdaptFormer, vit: nn.Module, parallel: bool) -> None:
        blocks = blocks_of(vit)
        dims = checked_ranks(method.dim, [Site(block, "mlp") for block in select_blocks(method.blocks, len(blocks))])
        super().__init__(fixed_scales(method.scale, dims))
        self.parallel = parallel
        self._blocks = {site: cast(Any, blocks[site.block]) for site in dims}
        self._inputs: dict[Site, Tensor] = {}  # of MLP branches that are being computed
        rates = checked_rates(method.dropout, self.sites)
        for site, dim in dims.items():
            weight = _output_layer(self._blocks[site], site, parallel).weight
            module = Bottleneck(len(weight), dim, rates[site], self.constants[site] is None, trained_type(weight))
            self.add_module(slashed(site), module)

    def put_on(self) -> None:
        """Hook the MLPs, and for a parallel one the norm before it, which sees the branch's input."""
        for site, block in self._blocks.items():
            hooks = [block.mlp.register_forward_hook(partial(self._add, site))]
            if self.parallel:
                hooks.append(block.norm2.register_forward_pre_hook(partial(self._keep, site)))
            self.placed(str(site), *(hook.remove for hook in hooks))

    def _keep(self, site: Site, norm: nn.Module, args: tuple[Tensor, ...]) -> None:
        self._inputs[site] = args[0]

    def _add(self, site: Site, mlp: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        module = cast(Bottleneck, self.get_submodule(slashed(site)))
        x = self._inputs.pop(site) if self.parallel else output
        return output + cast(Tensor, module(x, self.scales[site]()))

    def drop(self, site: Site) -> None:
        """Give up a site, and its parameters."""
        super().drop(site)
        del self._blocks[site]


def _output_layer(block: Any, site: Site, parallel: bool) -> nn.Linear:
    layer = getattr(getattr(block, "mlp", None), "fc2", None)
    if not isinstance(layer, nn.Linear):
        raise ValueError(f"blocks.{site.block} has no mlp.fc2 of timm's kind, so no site {site}")
    if parallel and "Post" in type(block).__name__:
        raise ValueError(f"blocks.{site.block} has its norm behind the MLP: AdaptFormer needs it before")
    return layer
