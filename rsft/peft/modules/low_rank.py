"""Low-rank additions to frozen linear layers and convolutions: LoRA and LoTR.

Low-rank additions to frozen convolutions, as in Hugging Face PEFT: A has the kernel, B is a 1 x 1 convolution.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rsft.peft.kernels import LowRankDelta, low_rank_linear
from rsft.peft.methods.settings import LowRankSettings, resolve_scales, validate_dropout, validate_ranks
from rsft.peft.modules.adapter_module import (
    AdapterModule,
    TargetLayer,
    find_target_layers,
    mangle_name,
    target_layers,
    trainable_kwargs,
    transformer_blocks,
)
from rsft.peft.sites import ALL_POSITIONS, Site, select_blocks, select_positions

if TYPE_CHECKING:
    from rsft.peft.sites import Site


class LowRankConv2d(nn.Conv2d):
    """A frozen convolution with low-rank additions, m B(A(x)).

    A (r, in, h, w) has the kernel, stride, padding and dilation of the convolution; B (out, r) mixes its r outputs at
    every pixel. Only the class of a layer changes, so that the layer keeps its name, its parameters and its hooks.

    Attributes:
        adapters: the module of each site of the layer.
    """

    adapters: dict[Site, LowRankModule]

    def forward(self, input: Tensor) -> Tensor:
        """Apply the convolution with its additions.

        Args:
            input: (B, in, H, W).

        Returns:
            (B, out, H', W').
        """
        y = super().forward(input)
        for delta in self.deltas():
            y = y + self.addition(input, delta)
        return y

    def deltas(self) -> list[LowRankDelta]:
        """Return the current additions to the layer.

        Returns:
            One for each site of the layer.
        """
        return [module.delta(site) for site, module in self.adapters.items()]

    def addition(self, x: Tensor, delta: LowRankDelta) -> Tensor:
        """Return m B(A(x)) of one addition.

        Args:
            x: (B, in, H, W).
            delta: the addition.

        Returns:
            (B, out, H', W').
        """
        a, b = delta.a.to(x.dtype), delta.b[:, :, None, None].to(x.dtype)
        hidden = F.conv2d(F.dropout(x, delta.dropout), a, None, self.stride, self.padding, self.dilation)
        return F.conv2d(hidden * delta.scale, b)


class LowRankModule(AdapterModule):
    """Low-rank additions, m_p (x A) B at every site.

    Args:
        layers: the layer of each site.
        fixed_scales: the constant scale of each site.
        dropouts: the dropout rate of each site, on the input of A.
    """

    def __init__(
        self,
        layers: Mapping[Site, TargetLayer],
        fixed_scales: Mapping[Site, float | None],
        dropouts: Mapping[Site, float],
    ) -> None:
        super().__init__(fixed_scales)
        self.target_layers, self.dropouts = dict(layers), dict(dropouts)

    def factors(self, site: Site) -> tuple[Tensor, Tensor]:
        """Return the factors of a site.

        Args:
            site: one of `sites`.

        Returns:
            A^T (r, width_in), of a convolution (r, in, h, w), and B^T (rows, r).
        """
        raise NotImplementedError

    def delta(self, site: Site) -> LowRankDelta:
        """Return the addition at a site.

        Args:
            site: one of `sites`.

        Returns:
            The addition; its dropout is 0 unless the module is in training mode.
        """
        rate = self.dropouts[site] if self.training else 0.0
        return LowRankDelta(self.target_layers[site].rows, *self.factors(site), self.scale_fns[site](), rate)

    def inject(self) -> None:
        """Turn the layers of all sites into `LowRankLinear` and `LowRankConv2d`."""
        for site in self.sites:
            layer = self.target_layers[site].layer
            _add_adapter(layer, site, self)
            self.add_undo(str(site), partial(_remove_adapter, layer, site))

    @torch.no_grad()
    def merge(self) -> None:
        """Add m (A B)^T to the weight of every site."""
        for site in self.sites:
            weight = self.target_layers[site].weight
            wide = torch.promote_types(weight.dtype, torch.float32)
            a, b = self.factors(site)
            update = (b.to(wide) @ a.to(wide).flatten(1)).view_as(weight)
            weight.copy_(weight.to(wide) + self.scale_fns[site]() * update)
        self.remove()


class LowRankLinear(nn.Linear):
    """A frozen linear layer with low-rank additions, each to the rows of the output that belong to its site.

    A fused qkv layer stays one matrix product. Only the class of a layer changes, as in torch.nn.utils.parametrize, so
    that the layer keeps its name, its parameters and its hooks.

    Attributes:
        adapters: the module of each site of the layer.
    """

    adapters: dict[Site, LowRankModule]

    def deltas(self) -> list[LowRankDelta]:
        """Return the current additions to the layer.

        Returns:
            One for each site of the layer.
        """
        return [module.delta(site) for site, module in self.adapters.items()]

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer with its additions.

        Args:
            x: (B, ..., width_in).

        Returns:
            (B, ..., width_out).
        """
        kernels = next(iter(self.adapters.values())).kernels
        if self.bias is None or not self.bias.requires_grad:
            return low_rank_linear(x, self.weight, self.bias, self.deltas(), training=True, kernels=kernels)
        y = low_rank_linear(x, self.weight, None, self.deltas(), training=True, kernels=kernels)
        return y + self.bias.to(y.dtype)  # BitFit trains the bias, and the kernel has no gradient for it


def _add_adapter(layer: nn.Linear | nn.Conv2d, site: Site, module: LowRankModule) -> None:
    if "adapters" not in vars(layer):
        layer.__class__ = LowRankConv2d if isinstance(layer, nn.Conv2d) else LowRankLinear
        vars(layer)["adapters"] = {}
    vars(layer)["adapters"][site] = module


def _remove_adapter(layer: nn.Linear | nn.Conv2d, site: Site) -> None:
    del vars(layer)["adapters"][site]
    if not vars(layer)["adapters"]:
        del vars(layer)["adapters"]
        layer.__class__ = nn.Conv2d if isinstance(layer, nn.Conv2d) else nn.Linear


def build_lora_module(method: LowRankSettings, vit: nn.Module) -> LowRankModule:
    """Build one pair of factors for every selected site of `vit`.

    Args:
        method: the configuration.
        vit: a timm vision transformer.

    Returns:
        A module on the device of `vit`, not injected.

    Raises:
        ValueError: the network lacks a site, or a setting is invalid.
    """
    ranks = _site_ranks(method, vit)
    layers = target_layers(vit, ranks)
    module = _LoRAModule(
        layers, resolve_scales(method.scale, ranks, method.alpha), validate_dropout(method.dropout, tuple(ranks))
    )
    for site, rank in ranks.items():
        module.add_module(mangle_name(site), _Factors(layers[site], rank, method.init))
    return module


def build_lotr_module(method: LowRankSettings, vit: nn.Module) -> LowRankModule:
    """Build one pair of factors for every position and one core matrix for every selected site of `vit`.

    Args:
        method: the configuration.
        vit: a timm vision transformer.

    Returns:
        A module on the device of `vit`, not injected.

    Raises:
        ValueError: the network lacks a site, a setting is invalid, or ranks or widths differ between the blocks of a
            position.
    """
    ranks = _site_ranks(method, vit)
    layers = target_layers(vit, ranks)
    shapes = {(site.position, rank, *layers[site].weight.shape) for site, rank in ranks.items()}
    if len(shapes) > len({position for position, *_ in shapes}):
        raise ValueError("lotr shares A and B of a position between blocks: their ranks and widths must be equal")
    module = _LoTRModule(
        layers, resolve_scales(method.scale, ranks, method.alpha), validate_dropout(method.dropout, tuple(ranks))
    )
    for site, rank in ranks.items():
        if not hasattr(module, f"shared/{site.position}"):
            factors = _Factors(layers[site], rank, method.init)
            nn.init.kaiming_uniform_(factors.b, a=math.sqrt(5))
            module.add_module(f"shared/{site.position}", factors)
        module.add_module(mangle_name(site), _Core(layers[site], rank))
    return module


def _site_ranks(method: LowRankSettings, vit: nn.Module) -> dict[Site, int]:
    positions = select_positions(method.positions)
    blocks = select_blocks(method.blocks, len(transformer_blocks(vit)))
    sites = [Site(block, position) for block in blocks for position in positions]
    available = set(find_target_layers(vit)).intersection(sites)
    if method.positions == ALL_POSITIONS:
        sites = [site for site in sites if site in available]
    elif any(site.position == "downsample" for site in available):  # only first blocks of a stage have one
        sites = [site for site in sites if site in available or site.position != "downsample"]
    return validate_ranks(method.rank, sites)


class _Factors(nn.Module):
    """Factors A (width_in, r), Kaiming-uniform with a = sqrt 5, and B (r, width_out), zero.

    Both are stored transposed, because torch's initializers and linear layers count fan-in along the last axis. LIFT
    and the paper's code store A untransposed, so the same initializer takes r as the fan-in: `init` = "rank".
    The A of a convolution has the kernel of the convolution, (r, in, h, w), as in Hugging Face PEFT.
    """

    def __init__(self, target: TargetLayer, rank: int, init: Literal["width", "rank"]) -> None:
        super().__init__()
        width_out, *input_shape = target.weight.shape
        self.a = nn.Parameter(torch.empty(rank, *input_shape, **trainable_kwargs(target.weight)))
        self.b = nn.Parameter(torch.zeros(width_out, rank, **trainable_kwargs(target.weight)))
        nn.init.kaiming_uniform_(self.a.detach().flatten(1).t() if init == "rank" else self.a, a=math.sqrt(5))


class _Core(nn.Module):
    """The core G (r, r) of LoTR, zero at first."""

    def __init__(self, target: TargetLayer, rank: int) -> None:
        super().__init__()
        self.g = nn.Parameter(torch.zeros(rank, rank, **trainable_kwargs(target.weight)))


class _LoRAModule(LowRankModule):
    """Separate factors A and B for every site."""

    def output_parameters(self, site: Site) -> list[nn.Parameter]:
        return [cast(_Factors, self.get_submodule(mangle_name(site))).b]

    def factors(self, site: Site) -> tuple[Tensor, Tensor]:
        factors = cast(_Factors, self.get_submodule(mangle_name(site)))
        return factors.a, factors.b


class _LoTRModule(LowRankModule):
    """Factors A and B that all blocks of a position share, and a core G for every site."""

    def output_parameters(self, site: Site) -> list[nn.Parameter]:
        return [cast(_Core, self.get_submodule(mangle_name(site))).g]

    def factors(self, site: Site) -> tuple[Tensor, Tensor]:
        factors = cast(_Factors, self.get_submodule(f"shared/{site.position}"))
        core = cast(_Core, self.get_submodule(mangle_name(site)))
        return factors.a, factors.b @ core.g.t()
