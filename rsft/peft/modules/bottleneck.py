"""Bottleneck modules at the MLP of a block: after it (Adapter) or parallel to it (AdaptFormer)."""

import math
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rsft.peft.methods.settings import BottleneckMethod, resolve_scales, validate_dropout, validate_ranks
from rsft.peft.modules.adapter_module import AdapterModule, mangle_name, trainable_kwargs, transformer_blocks
from rsft.peft.sites import Site, select_blocks


class BottleneckMlp(nn.Module):
    """A bottleneck, up(relu(down(LN(x)))) * m. The scale m is applied inside the bottleneck, which is cheap.

    Args:
        width: D, of input and output.
        dim: h, of the bottleneck.
        dropout: rate after the ReLU.
        learnable: whether the module learns a scale of its own, starting at 1.
        options: device and dtype of the parameters.
    """

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
        """Return the addition (B, N, D) to tokens x (B, N, D) at the scale m."""
        m = m if self.scale is None else m * self.scale
        hidden = self.dropout(F.relu(self.down(self.norm(x))))
        return F.linear(hidden * m, self.up.weight, self.up.bias * m)


class BottleneckModule(AdapterModule):
    """A bottleneck at the MLP of every selected block. It cannot be folded into the weights.

    Args:
        method: the configuration.
        vit: a timm vision transformer.
        parallel: whether the input is that of the MLP branch (AdaptFormer) or the output of the MLP (Adapter).

    Raises:
        ValueError: a block has no suitable MLP, or a setting is invalid.
    """

    def __init__(self, method: BottleneckMethod, vit: nn.Module, parallel: bool) -> None:
        blocks = transformer_blocks(vit)
        dims = validate_ranks(method.dim, [Site(block, "mlp") for block in select_blocks(method.blocks, len(blocks))])
        super().__init__(resolve_scales(method.scale, dims))
        self.parallel = parallel
        self._blocks = {site: cast(Any, blocks[site.block]) for site in dims}
        self._inputs: dict[Site, Tensor] = {}  # of MLP branches that are being computed
        dropouts = validate_dropout(method.dropout, self.sites)
        for site, dim in dims.items():
            weight = _output_layer(self._blocks[site], site, parallel).weight
            learnable = self.fixed_scales[site] is None
            module = BottleneckMlp(len(weight), dim, dropouts[site], learnable, trainable_kwargs(weight))
            self.add_module(mangle_name(site), module)

    def output_parameters(self, site: Site) -> list[nn.Parameter]:
        """Return weight and bias of the layer "up"."""
        return list(cast(BottleneckMlp, self.get_submodule(mangle_name(site))).up.parameters())

    def inject(self) -> None:
        """Hook the MLPs and, for a parallel module, the norms before them, which receive the input of the branch."""
        for site, block in self._blocks.items():
            hooks = [block.mlp.register_forward_hook(partial(self._add_output, site))]
            if self.parallel:
                hooks.append(block.norm2.register_forward_pre_hook(partial(self._store_input, site)))
            self.add_undo(str(site), *(hook.remove for hook in hooks))

    def _store_input(self, site: Site, norm: nn.Module, args: tuple[Tensor, ...]) -> None:
        self._inputs[site] = args[0]

    def _add_output(self, site: Site, mlp: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        module = self.get_submodule(mangle_name(site))
        x = self._inputs.pop(site) if self.parallel else output
        return output + cast(Tensor, module(x, self.scale_fns[site]()))

    def drop_site(self, site: Site) -> None:
        super().drop_site(site)
        del self._blocks[site]


def _output_layer(block: Any, site: Site, parallel: bool) -> nn.Linear:
    layer = getattr(getattr(block, "mlp", None), "fc2", None)
    if not isinstance(layer, nn.Linear):
        raise ValueError(f"blocks.{site.block} has no linear layer mlp.fc2, so the network has no site {site}")
    if parallel and ("Post" in type(block).__name__ or "TransformerV2" in type(block).__name__):
        raise ValueError(f"blocks.{site.block} has its norm after the MLP: AdaptFormer needs the norm before the MLP")
    if parallel and not hasattr(block, "norm2"):
        raise ValueError(f"blocks.{site.block} has no norm2 before its MLP, whose input AdaptFormer takes")
    return layer
