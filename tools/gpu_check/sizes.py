"""Sizes of the networks and jobs: of a GPU, and small ones that a CPU runs in seconds."""

from __future__ import annotations

from typing import Any, NamedTuple

import timm
import torch
from torch import nn

from rsft.data.chips.class_names import Counts
from rsft.plugins.demo.prepare import DEMO_CLASSES, DEMO_COUNTS

CLASSES = 15


class Network(NamedTuple):
    """A timm network and its batch.

    Attributes:
        title: printed name.
        model: timm's name.
        options: arguments of timm that differ from the defaults.
        side: side of an image in pixels.
        batch: images in a step.
    """

    title: str
    model: str
    options: tuple[tuple[str, Any], ...]
    side: int
    batch: int

    def build(self, device: torch.device | str) -> nn.Module:
        """Return the network with the same random weights at every call.

        Args:
            device: device of the weights.
        """
        torch.manual_seed(0)
        if torch.device(device).type == "meta":
            with torch.device("meta"):
                return self._create()
        return self._create().to(device)

    def images(self, device: torch.device | str) -> torch.Tensor:
        """Return the same random images (batch, 3, side, side) at every call.

        Args:
            device: device of the images.
        """
        generator = torch.Generator().manual_seed(1)
        return torch.randn(self.batch, 3, self.side, self.side, generator=generator).to(
            device
        )

    def _create(self) -> nn.Module:
        network: nn.Module = timm.create_model(
            self.model, num_classes=CLASSES, **dict(self.options)
        )
        return network


class Sizes(NamedTuple):
    """The work of one call of the program.

    Attributes:
        equality: network of the checks.
        trained: networks whose training steps are timed.
        predicted: network whose prediction is timed.
        steps: timed steps.
        counts: chips of the quick start by split and class.
        scenes: simulated scenes from which chips of the quick start are cut.
        overrides: keys of the quick start's recipe.
        loaded_side: side in pixels of the chips whose loading is timed.
        operator_blocks: blocks of the network whose operators are counted.
        product_side: rows and columns of the large matrix product.
        compiler: backend of `torch.compile`.
    """

    equality: Network
    trained: tuple[Network, ...]
    predicted: Network
    steps: int
    counts: Counts
    scenes: int
    overrides: tuple[str, ...]
    loaded_side: int
    operator_blocks: int
    product_side: int
    compiler: str


_SMALL = (
    ("img_size", 32),
    ("patch_size", 8),
    ("embed_dim", 48),
    ("depth", 2),
    ("num_heads", 2),
)
_SMALL_COUNTS: Counts = {
    split: dict.fromkeys(DEMO_CLASSES, count)
    for split, count in (("train", 6), ("val", 2), ("test", 1))
}

FULL = Sizes(
    Network("ViT-S/16", "vit_small_patch16_224", (), 224, 8),
    (
        Network("ViT-B/16", "vit_base_patch16_224", (), 224, 64),
        Network("ViT-L/16", "vit_large_patch16_224", (), 224, 32),
    ),
    Network("ViT-S/16", "vit_small_patch16_224", (), 224, 256),
    10,
    DEMO_COUNTS,
    20,
    (),
    224,
    12,
    8192,
    "inductor",
)
"""Sizes for a GPU."""

TINY = Sizes(
    Network("tiny ViT", "vit_tiny_patch16_224", _SMALL, 32, 4),
    (Network("tiny ViT", "vit_tiny_patch16_224", _SMALL, 32, 4),),
    Network("tiny ViT", "vit_tiny_patch16_224", _SMALL, 32, 4),
    2,
    _SMALL_COUNTS,
    1,
    ("train.epochs=1", "train.batch_size=4", "train.warmup_epochs=0"),
    32,
    1,
    64,
    "eager",
)
"""Sizes of a dry run: the numbers mean nothing, but every part runs."""
