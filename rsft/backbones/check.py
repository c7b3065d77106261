"""Run an encoder on fixed noise, to compare the encoders of two machines or two files."""

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

BATCH_SIZE = 4
"""Number of noise images."""


@dataclass(frozen=True)
class FeatureStats:
    """Statistics of one feature vector per image.

    Attributes:
        mean: mean of all entries.
        std: standard deviation of all entries.
        norm: mean Euclidean norm of the vectors.
    """

    mean: float
    std: float
    norm: float


@dataclass(frozen=True)
class EncoderCheck:
    """The result of `check_encoder`.

    Attributes:
        tensors: number of tensors of the encoder.
        parameters: number of parameters.
        tokens: tokens per image, or pixels of the feature map.
        features: statistics of the class token (if the encoder has one) and of the mean of the patch tokens or of the
            feature map, by name.
        speed: images per second.
        device: the device, in words.
    """

    tensors: int
    parameters: int
    tokens: int
    features: dict[str, FeatureStats]
    speed: float
    device: str


def count_encoder_parameters(card: Card) -> int:
    """Return the number of parameters of an encoder, without reading its weights.

    Args:
        card: the card of the encoder.
    """
    return _count_parameters(card.build, card.size)


@cache
def _count_parameters(build: Callable[[int], VisionTransformer], size: int) -> int:
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in build(size).parameters())


def check_encoder(backbone: Backbone, size: int, seconds: float = 1.0) -> EncoderCheck:
    """Compute features of noise images and measure the speed of an encoder.

    Args:
        backbone: the loaded encoder.
        size: side of the input, in pixels.
        seconds: minimum duration of the speed measurement.

    Returns:
        Features of 4 images (bands, size, size) of normal noise with seed 0, and the speed at a batch size of 4.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    vit = backbone.vit.to(device)
    shape = (BATCH_SIZE, len(backbone.bands), size, size)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(device)
    with torch.inference_mode():
        output: Tensor = vit.forward_features(noise)
        batches, start = 0, time.perf_counter()
        while not batches or time.perf_counter() - start < seconds:
            vit.forward_features(noise).sum().item()  # waits for the device
            batches += 1
        speed = batches * BATCH_SIZE / (time.perf_counter() - start)
    return EncoderCheck(
        len(vit.state_dict()),
        sum(parameter.numel() for parameter in vit.parameters()),
        output[0].numel() // backbone.width,
        _describe_output(vit, output),
        speed,
        f"{device.type}, {torch.get_num_threads()} threads" if device.type == "cpu" else torch.cuda.get_device_name(),
    )


def _describe_output(vit: VisionTransformer, output: Tensor) -> dict[str, FeatureStats]:
    """Return the statistics of the vectors that a recipe can pool from tokens (B, N, D) or from a feature map."""
    if output.ndim == 4:
        return {"map mean": _feature_stats(vit.forward_head(output, pre_logits=True))}
    features = {"class token": _feature_stats(output[:, 0])} if vit.cls_token is not None else {}
    return features | {"patch mean": _feature_stats(output[:, vit.num_prefix_tokens :].mean(1))}


def _feature_stats(vectors: Tensor) -> FeatureStats:
    """Return the statistics of feature vectors (B, D)."""
    return FeatureStats(vectors.mean().item(), vectors.std().item(), vectors.norm(dim=1).mean().item())
