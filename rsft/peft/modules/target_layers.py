"""Find the layers of the sites of a network: linear layers and convolutions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

from torch import Tensor, nn

from rsft.peft.modules.network_blocks import named_blocks
from rsft.peft.sites import LAYER_POSITIONS, POSITIONS, Site

_LAYERS = {
    "q": ("attn.qkv", "attn.q_proj"),
    "k": ("attn.qkv", "attn.k_proj"),
    "v": ("attn.qkv", "attn.v_proj"),
    "out": ("attn.proj",),
    "mlp1": ("mlp.fc1",),
    "mlp2": ("mlp.fc2",),
    "conv1": ("conv1",),
    "conv2": ("conv2",),
    "conv3": ("conv3",),
    "downsample": ("downsample.0", "downsample.1"),  # the second one in ResNet-D, after a pooling layer
}


class TargetLayer(NamedTuple):
    """The linear layer or convolution of a site, and the rows of its output that belong to the site."""

    layer: nn.Linear | nn.Conv2d
    rows: slice

    @property
    def weight(self) -> Tensor:
        """The rows of the weight that belong to the site, (rows, width_in), or of a convolution (rows, in, h, w)."""
        return self.layer.weight[self.rows]


def transformer_blocks(vit: nn.Module) -> Sequence[nn.Module]:
    """Return the blocks of a network.

    Args:
        vit: a timm network, see `named_blocks`.

    Returns:
        The blocks in forward order, through all stages.

    Raises:
        ValueError: the network has no blocks.
    """
    return tuple(named_blocks(vit).values())


def find_target_layers(vit: nn.Module) -> dict[Site, TargetLayer]:
    """Return every site of a timm network that is a convolution, a linear layer or some rows of one.

    Args:
        vit: a timm network, see `named_blocks`.

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
    """Return the layers of some sites.

    Args:
        vit: a timm network, see `named_blocks`.
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
            path = f"{_block_name(vit, site.block)}.{_LAYERS[site.position][0]}"
            raise ValueError(
                f"{type(vit).__name__} has no linear layer or full convolution {path}, so it has no site {site}; "
                f"positions of that block: {available}"
            )
    return {site: layers[site] for site in selected}


def _block_name(network: nn.Module, block: int) -> str:
    """Return the dotted name of a block, such as "stages.0.blocks.1"; "blocks.N" if the network has no such block."""
    names = list(named_blocks(network))
    return names[block] if block < len(names) else f"blocks.{block}"


def _target_layer(block: nn.Module, position: str) -> TargetLayer | None:
    for path in _LAYERS[position]:
        layer = _submodule(block, path)
        if not _is_supported(layer):
            continue
        width = len(layer.weight)
        if not path.endswith("qkv"):
            return TargetLayer(layer, slice(0, width))
        start = POSITIONS.index(position) * (width // 3)
        return TargetLayer(layer, slice(start, start + width // 3))
    return None


def _submodule(block: nn.Module, path: str) -> Any:
    try:
        return block.get_submodule(path)
    except AttributeError:
        return None


def _is_supported(layer: nn.Module | None) -> bool:
    """Return whether a layer is a plain one: a subclass may compute something else, and groups are not full rank."""
    if type(layer) is nn.Conv2d:
        return layer.groups == 1 and layer.padding_mode == "zeros"
    return type(layer) is nn.Linear


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
