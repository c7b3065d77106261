"""Find the blocks of a vision transformer and the linear layers of its sites."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import NamedTuple, cast

from torch import Tensor, nn

from rsft.peft.sites import LAYER_POSITIONS, POSITIONS, Site

_LAYERS = {
    "q": ("attn.qkv", "attn.q_proj"),
    "k": ("attn.qkv", "attn.k_proj"),
    "v": ("attn.qkv", "attn.v_proj"),
    "out": ("attn.proj",),
    "mlp1": ("mlp.fc1",),
    "mlp2": ("mlp.fc2",),
}


class TargetLayer(NamedTuple):
    """The linear layer of a site, and the rows of its output that belong to the site."""

    layer: nn.Linear
    rows: slice

    @property
    def weight(self) -> Tensor:
        """The rows of the weight matrix that belong to the site, (rows, width_in)."""
        return self.layer.weight[self.rows]


def transformer_blocks(vit: nn.Module) -> Sequence[nn.Module]:
    """Return the transformer blocks of a network.

    Args:
        vit: a timm vision transformer.

    Returns:
        The blocks in forward order.

    Raises:
        ValueError: the network has no blocks.
    """
    blocks = getattr(vit, "blocks", None)
    if not isinstance(blocks, nn.Sequential | nn.ModuleList):
        raise ValueError(f"{type(vit).__name__} has no blocks: it is not a timm vision transformer")
    return cast(Sequence[nn.Module], blocks)


def find_target_layers(vit: nn.Module) -> dict[Site, TargetLayer]:
    """Return every site of a timm vision transformer that is a linear layer or some rows of one.

    Args:
        vit: a timm vision transformer.

    Returns:
        Site -> layer, block by block in forward order.
    """
    layers = {
        Site(index, position): _target_layer(block, position)
        for index, block in enumerate(transformer_blocks(vit))
        for position in LAYER_POSITIONS
    }
    return {site: layer for site, layer in layers.items() if layer is not None}


def target_layers(vit: nn.Module, sites: Iterable[Site]) -> dict[Site, TargetLayer]:
    """Return the linear layers of some sites.

    Args:
        vit: a timm vision transformer.
        sites: the sites to find.

    Returns:
        Site -> layer, in the order of `sites`.

    Raises:
        ValueError: the network has no layer for a site.
    """
    layers, selected = find_target_layers(vit), tuple(sites)
    for site in selected:
        if site not in layers:
            available = ", ".join(position for block, position in layers if block == site.block) or "none"
            path = f"blocks.{site.block}.{_LAYERS[site.position][0]}"
            raise ValueError(
                f"{type(vit).__name__} has no linear layer {path}, so it has no site {site}; "
                f"positions of that block: {available}"
            )
    return {site: layers[site] for site in selected}


def _target_layer(block: nn.Module, position: str) -> TargetLayer | None:
    for path in _LAYERS[position]:
        parent, _, name = path.rpartition(".")
        layer = getattr(getattr(block, parent, None), name, None)
        if type(layer) is not nn.Linear:  # a subclass may compute something else
            continue
        width = layer.out_features
        if name != "qkv":
            return TargetLayer(layer, slice(0, width))
        start = POSITIONS.index(position) * (width // 3)
        return TargetLayer(layer, slice(start, start + width // 3))
    return None


def use_fused_qkv_layers(vit: nn.Module) -> list[Callable[[], object]]:
    """Make attention call its fused qkv layer instead of reading the layer's weight (timm's EVA and BEiT).

    Args:
        vit: a timm vision transformer; changed in place.

    Returns:
        Functions that undo the change.
    """
    undo: list[Callable[[], object]] = []
    for module in vit.modules():
        if vars(module).get("qkv_bias_separate") is False:
            vars(module)["qkv_bias_separate"] = True
            undo.append(partial(setattr, module, "qkv_bias_separate", False))
    return undo
