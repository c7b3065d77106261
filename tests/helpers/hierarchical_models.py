"""Small hierarchical and convolutional timm networks with weights as if pre-trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import timm
import torch
from safetensors.torch import save_file
from timm.models.convnext import ConvNeXt
from timm.models.resnet import BasicBlock, Bottleneck, ResNet
from timm.models.swin_transformer import SwinTransformer
from timm.models.swin_transformer_v2 import SwinTransformerV2
from torch import nn

from rsft.backbones.card import Card
from rsft.backbones.timm_vits import PREFIX, timm_card

SIZE = 32
"""Side of the input, in pixels."""

_SWIN = {
    "img_size": SIZE,
    "embed_dim": 16,
    "depths": (1, 2),
    "num_heads": (2, 4),
    "window_size": 4,
    "num_classes": 0,
}
_CONVNEXT = {
    "depths": (1, 2, 1, 1),
    "dims": (8, 12, 16, 20),
    "num_classes": 0,
    "ls_init_value": 0.5,
}
_RESNET = {
    "layers": (1, 2, 1, 1),
    "channels": (4, 6, 8, 10),
    "num_classes": 0,
    "zero_init_last": False,
}


def _randomize(network: nn.Module) -> nn.Module:
    """Give all weights and statistics visible effects, also those that timm initializes
    at zero or one."""
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point() and tensor.numel() > 1 and tensor.std() < 0.05:
            nn.init.normal_(
                tensor,
                float(tensor.mean().round()),
                0.1 if name.endswith("var") else 0.2,
            )
    return network.eval()


def tiny_swin(**kwargs: object) -> nn.Module:
    """Return a Swin transformer of three blocks in two stages, the same at every
    call."""
    torch.manual_seed(0)
    return _randomize(SwinTransformer(**(_SWIN | kwargs)))


def tiny_swin_v2(**kwargs: object) -> nn.Module:
    """Return a Swin transformer V2 of three blocks in two stages, the same at every
    call."""
    torch.manual_seed(0)
    return _randomize(SwinTransformerV2(**(_SWIN | kwargs)))


def tiny_convnext(**kwargs: object) -> nn.Module:
    """Return a ConvNeXt of five blocks in four stages, the same at every call."""
    torch.manual_seed(0)
    return _randomize(ConvNeXt(**(_CONVNEXT | kwargs)))


def tiny_resnet(block: type[nn.Module] = Bottleneck, **kwargs: object) -> nn.Module:
    """Return a ResNet of five blocks in four stages, the same at every call."""
    torch.manual_seed(0)
    return _randomize(ResNet(block, **(_RESNET | kwargs)))


HIERARCHICAL: dict[str, Callable[[], nn.Module]] = {
    "swin": tiny_swin,
    "swin-v2": tiny_swin_v2,
    "convnext": tiny_convnext,
    "convnext-v2-conv-mlp": lambda: tiny_convnext(use_grn=True, conv_mlp=True),
    "resnet": tiny_resnet,
    "resnet-d": lambda: tiny_resnet(avg_down=True),
    "resnet-basic": lambda: tiny_resnet(BasicBlock),
}
"""One network for every layout of blocks."""


_SMALL: dict[str, dict[str, object]] = {
    "resnet50": {"layers": (1, 2, 1, 1), "channels": (8, 8, 12, 16)},
    "convnext_tiny": {
        "depths": (1, 2, 1, 1),
        "dims": (8, 12, 16, 24),
        "ls_init_value": 0.5,
    },
    "swinv2_tiny_window8_256": {
        "embed_dim": 16,
        "depths": (1, 2, 1),
        "num_heads": (2, 2, 4),
        "window_size": 8,
    },
}


def small_card(architecture: str) -> Card:
    """Return the card of a small network of the kind of a timm architecture, under the
    name of the whole one."""
    card = timm_card(f"{PREFIX}{architecture}")
    assert card is not None
    windows = (
        {"pretrained_window_sizes": (8, 8, 8)}
        if architecture.startswith("swinv2")
        else {}
    )

    def build(size: int) -> nn.Module:
        sides = {"img_size": size} if architecture.startswith("swin") else {}
        return timm.create_model(
            architecture, num_classes=0, **_SMALL[architecture], **windows, **sides
        )

    return replace(card, build=build)


def write_small_weights(architecture: str, folder: Path) -> Path:
    """Write random weights of the network of `small_card` with a classifier of ten
    classes, as timm stores them."""
    torch.manual_seed(0)
    sides = {"img_size": 64} if architecture.startswith("swin") else {}
    network = _randomize(
        timm.create_model(architecture, num_classes=10, **_SMALL[architecture], **sides)
    )
    path = folder / f"{architecture}.safetensors"
    save_file(network.state_dict(), path)
    return path
