"""A small convolutional network without pre-training: A-ConvNet with batch norm.

Source: Chen et al. 2016, https://doi.org/10.1109/TGRS.2016.2551720, Figure 7. As there,
all convolutions but the last are unpadded. Batch norm follows each of them, and the
mean of the last feature map replaces the last convolution, so that the side of the
input is free. A recipe trains all weights from a random start (`peft.method: full`).
"""

from collections.abc import Callable
from functools import partial
from typing import Any, cast

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from rsft.backbones.card import Card, State
from rsft.backbones.pooled_map import PooledMap
from rsft.errors import RequestError

NAME = "aconvnet"
PADDED_NAME = "aconvnet_padded"
WIDTHS = (16, 32, 64, 128)
MIN_SIZE = 32
MAX_SIZE = 128
# pixels; without padding, the last feature map of smaller inputs has one pixel, or none
_PADDED_BELOW = 48


class UncountedBatchNorm(nn.BatchNorm2d):
    """Batch norm whose state lacks the number of its batches.

    All of its tensors change its outputs.
    """

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.num_batches_tracked = None

    def _load_from_state_dict(
        self, state: State, prefix: str, metadata: dict[str, Any], *args: Any
    ) -> None:
        # without a version, as in a plain dictionary, torch adds the number
        super()._load_from_state_dict(
            state, prefix, metadata | {"version": self._version}, *args
        )


class ConvBlock(nn.Sequential):
    """An unbiased convolution, batch norm, ReLU and, with `pools`, a 2 x 2 maximum."""

    def __init__(
        self,
        width_in: int,
        width: int,
        kernel: int,
        padding: int = 0,
        *,
        pools: bool = True,
    ) -> None:
        super().__init__()
        self.add_module(
            "conv1", nn.Conv2d(width_in, width, kernel, padding=padding, bias=False)
        )
        self.add_module("norm1", UncountedBatchNorm(width))
        self.add_module("relu1", nn.ReLU(inplace=True))
        if pools:
            self.add_module("pool1", nn.MaxPool2d(2))


class AConvNet(PooledMap):
    """Maps images (B, 3, size, size) to features (B, 128, h, w).

    Args:
        size: side of the input in pixels, 32 to 128.
        is_padded: whether to pad all convolutions, and to add a fifth one. Then what is
            at the border of a chip counts as much as what is in its center: better for
            scenes.

    Attributes:
        trains_batch_norm: whether training normalizes by the statistics of each batch,
            and learns running statistics.
        num_features: number of channels of the features.
    """

    trains_batch_norm = True
    num_features = WIDTHS[-1]

    def __init__(self, size: int, *, is_padded: bool = False) -> None:
        super().__init__()
        first, second, third, fourth = WIDTHS
        outer, kernel, padding = 0, 6, 0
        if is_padded:
            outer, kernel, padding = 2, 3, 1
        elif size < _PADDED_BELOW:
            padding = 2
        last = [ConvBlock(third, fourth, 3, 1, pools=False)]
        if is_padded:
            last.append(ConvBlock(fourth, fourth, 3, 1, pools=False))
        self.layer1 = nn.Sequential(ConvBlock(3, first, 5, outer))
        self.layer2 = nn.Sequential(ConvBlock(first, second, 5, outer))
        self.layer3 = nn.Sequential(ConvBlock(second, third, kernel, padding))
        self.layer4 = nn.Sequential(*last)

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the last feature map (B, 128, h, w) of images (B, P, S, S)."""
        # a step takes three quarters of the time
        x = x.contiguous(memory_format=torch.channels_last)
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = layer(x)
        return x


def build_aconvnet(size: int = 64, *, is_padded: bool = False) -> VisionTransformer:
    """Build the network with random weights.

    It offers what rsft uses of a network of timm.

    Raises:
        RequestError: `size` is not from 32 to 128.
    """
    if not MIN_SIZE <= size <= MAX_SIZE:
        name = PADDED_NAME if is_padded else NAME
        raise RequestError(
            f"{name} takes inputs of {MIN_SIZE} to {MAX_SIZE} pixels, not {size}",
            "data.size",
            "shrink the chips with data.size, or cut their center with data.crop",
        )
    return cast(VisionTransformer, AConvNet(size, is_padded=is_padded))


def _card(name: str, about: str, build: Callable[[int], VisionTransformer]) -> Card:
    return Card(
        name=name,
        about=f"A-ConvNet with batch norm, {about}; starts at random weights",
        size=64,
        patch=8,
        bands=("R", "G", "B"),
        unit="uint8",
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
        license="MIT",
        weights=None,
        build=build,
        sensor="none",
    )


CARDS = (
    _card(NAME, "162 k parameters", build_aconvnet),
    _card(
        PADDED_NAME,
        "padded, with a fifth layer, 254 k parameters",
        partial(build_aconvnet, is_padded=True),
    ),
)
