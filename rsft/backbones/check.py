"""What an encoder gives for noise, and how fast: enough to see that two machines, or two files, hold the same one."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from rsft.backbones.card import Card
from rsft.backbones.loading import Backbone

IMAGES = 4


@dataclass(frozen=True)
class FeatureStats:
    """A vector of every image: mean and standard deviation of its entries, and the mean of its Euclidean length."""

    mean: float
    std: float
    norm: float


@dataclass(frozen=True)
class EncoderCheck:
    """`tensors` and `parameters` of the encoder, `features` by name, `tokens` an image, `speed` in images a second."""

    tensors: int
    parameters: int
    tokens: int
    features: dict[str, FeatureStats]
    speed: float
    device: str


def count_encoder_parameters(card: Card) -> int:
    """Parameters of the encoder, from its shapes alone."""
    return _count(card.build, card.size)


@cache
def _count(build: Callable[[int], VisionTransformer], size: int) -> int:
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in build(size).parameters())


def check_encoder(backbone: Backbone, size: int, seconds: float = 1.0) -> EncoderCheck:
    """Features of 4 images (bands, size, size) of normal noise, drawn from seed 0; then speed over some `seconds`."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    vit = backbone.vit.to(device)
    shape = (IMAGES, len(backbone.bands), size, size)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(device)
    with torch.inference_mode():
        tokens: Tensor = vit.forward_features(noise)  # (4, N, D)
        patches = tokens[:, vit.num_prefix_tokens :].mean(1)
        features = {"class token": _feature(tokens[:, 0])} if vit.cls_token is not None else {}
        features["patch mean"] = _feature(patches)
        batches, start = 0, time.perf_counter()
        while not batches or time.perf_counter() - start < seconds:
            vit.forward_features(noise)[0, 0, 0].item()  # waits for the device
            batches += 1
        speed = batches * IMAGES / (time.perf_counter() - start)
    return EncoderCheck(
        len(vit.state_dict()),
        sum(parameter.numel() for parameter in vit.parameters()),
        tokens.shape[1],
        features,
        speed,
        f"{device.type}, {torch.get_num_threads()} threads" if device.type == "cpu" else torch.cuda.get_device_name(),
    )


def _feature(vectors: Tensor) -> FeatureStats:
    """(B, D) in words."""
    return FeatureStats(vectors.mean().item(), vectors.std().item(), vectors.norm(dim=1).mean().item())
