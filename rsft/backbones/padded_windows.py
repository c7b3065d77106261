"""Attention windows of torchvision's Swin networks, in timm's networks.

A map of features need not consist of whole windows. torchvision then pads it with zeros
at the right and at the bottom, and shifts the padded map. timm's windows shrink with a
small map, and it shifts a map before it pads it. So their results differ, unless each
map consists of whole windows, as at the size of pre-training.
"""

from collections.abc import Callable, Iterator
from typing import Any

from timm.models.swin_transformer import SwinTransformerBlock
from timm.models.swin_transformer_v2 import SwinTransformerV2Block
from torch import Tensor, nn
from torch.nn import functional as F

from rsft.types import Size


def _attend_padded(
    attend: Callable[[Tensor], Tensor], x: Tensor, window: Size
) -> Tensor:
    """Return the attention output of a map (B, H, W, C) that is padded to windows."""
    height, width = x.shape[1:3]
    padding = (0, 0, 0, -width % window[1], 0, -height % window[0])
    return attend(F.pad(x, padding))[:, :height, :width].contiguous()


class PaddedBlock(SwinTransformerBlock):
    """A block of a Swin transformer that pads its map before it shifts it."""

    def _attn(self, x: Tensor) -> Tensor:
        return _attend_padded(super()._attn, x, self.window_size)


class PaddedBlockV2(SwinTransformerV2Block):
    """A block of a Swin transformer V2 that pads its map before it shifts it."""

    def _attn(self, x: Tensor) -> Tensor:
        return _attend_padded(super()._attn, x, self.window_size)


_PADDED: dict[type[nn.Module], type[nn.Module]] = {
    SwinTransformerBlock: PaddedBlock,
    SwinTransformerV2Block: PaddedBlockV2,
}


def _blocks(network: Any) -> Iterator[Any]:
    for stage in network.layers:
        yield from stage.blocks


def pad_windows(network: nn.Module) -> None:
    """Make a Swin of timm compute what torchvision's network computes.

    Args:
        network: a network that timm has built with `always_partition=True`. Its blocks
            get another class, because timm builds blocks of its own classes alone.
    """
    for block in _blocks(network):
        block.__class__ = _PADDED[type(block)]
        if block.input_resolution[0] <= block.window_size[0]:  # a single window
            block.shift_size = (0, 0)
            block._init_buffers()


def has_padding(network: nn.Module) -> bool:
    """Return whether a network has a map that it pads."""
    padded = tuple(_PADDED.values())
    blocks: list[Any] = [x for x in network.modules() if isinstance(x, padded)]
    return any(block.input_resolution[0] % block.window_size[0] for block in blocks)


def shrink_windows(network: nn.Module) -> None:
    """Undo `pad_windows`, for a bundle of rsft 0.2."""
    for block in _blocks(network):
        block.__class__ = type(block).__base__
        block.set_input_size(
            block.input_resolution, block.window_size, always_partition=False
        )
