"""Run an encoder on fixed noise, to compare two machines or two files."""

import time
from typing import NamedTuple

import torch
from torch import Tensor

from rsft.backbones.loading import Backbone

BATCH_SIZE = 4
"""Number of noise images."""


class EncoderCheck(NamedTuple):
    """The result of `check_encoder`.

    Attributes:
        tokens: tokens per image, or pixels of the feature map.
        features: mean and standard deviation of all entries, and mean Euclidean norm,
            of one feature vector per image: of the class token (if the encoder has one)
            and of the mean of the patch tokens or of the feature map.
        speed: images per second.
        device: the device, in words.
    """

    tokens: int
    features: dict[str, tuple[float, float, float]]
    speed: float
    device: str


def check_encoder(backbone: Backbone, size: int, seconds: float = 1.0) -> EncoderCheck:
    """Compute features of noise images and measure the speed of an encoder.

    Args:
        backbone: the loaded encoder.
        size: side of the input, in pixels.
        seconds: minimum duration of the speed measurement.

    Returns:
        Features of 4 images (bands, size, size) of normal noise with seed 0, and the
        speed at a batch size of 4.
    """
    device_text = f"cpu, {torch.get_num_threads()} threads"
    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda")
        device_text = torch.cuda.get_device_name()
    vit = backbone.vit.to(device)
    shape = (BATCH_SIZE, len(backbone.bands), size, size)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(device)
    features = {}
    with torch.inference_mode():
        output: Tensor = vit.forward_features(noise)
        batches = 0
        start = time.perf_counter()
        while not batches or time.perf_counter() - start < seconds:
            vit.forward_features(noise).sum().item()  # waits for the device
            batches += 1
        speed = batches * BATCH_SIZE / (time.perf_counter() - start)
        for name, vectors in _pool(backbone, output).items():
            norm = vectors.norm(dim=1).mean().item()
            features[name] = (vectors.mean().item(), vectors.std().item(), norm)
    tokens = output[0].numel() // backbone.width
    return EncoderCheck(tokens, features, speed, device_text)


def _pool(backbone: Backbone, output: Tensor) -> dict[str, Tensor]:
    """Return the vectors (B, D) that a recipe can pool from the output."""
    vit = backbone.vit
    if output.ndim == 4:
        return {"map mean": vit.forward_head(output, pre_logits=True)}
    vectors = {}
    if vit.cls_token is not None:
        vectors["class token"] = output[:, 0]
    vectors["patch mean"] = output[:, vit.num_prefix_tokens :].mean(1)
    return vectors
