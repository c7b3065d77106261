"""Encoders that are any frozen module: one vector per image, and no blocks to adapt.

Example:
    >>> import torch, rsft
    >>> module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 64, 16))
    >>> card = rsft.register_encoder("flat", module, size=8)
    >>> card.name, card.build(8).num_features
    ('flat', 16)
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from rsft.backbones.card import Card
from rsft.backbones.pooled_map import PooledMap
from rsft.backbones.registered import CARDS
from rsft.errors import RequestError
from rsft.types import Names
from rsft.utils.licenses import UNKNOWN

_BYTES = ("R", "G", "B")


class FrozenNetwork(PooledMap):
    """Offers what rsft uses of a network of timm, for a module without blocks.

    Args:
        module: maps images (B, P, S, S) to vectors (B, D), tokens (B, N, D), whose mean
            is taken, or feature maps (B, D, h, w).
        width: D.

    Attributes:
        num_features: D.
        scale: a factor of the vectors, 1. A network of rsft has at least one parameter.
    """

    def __init__(self, module: nn.Module, width: int) -> None:
        super().__init__()
        self.layer1 = nn.Sequential(module)
        self.num_features = width
        self.scale = nn.Parameter(torch.ones(1))

    def forward_features(self, x: Tensor) -> Tensor:
        """Return a feature map (B, D, h, w) of images (B, P, S, S)."""
        return as_feature_map(self.layer1(x)) * self.scale


def as_feature_map(output: Tensor) -> Tensor:
    """Return vectors (B, D), or the mean of tokens (B, N, D), as a map (B, D, 1, 1)."""
    if output.ndim == 3:
        output = output.mean(1)
    if output.ndim == 2:
        output = output[:, :, None, None]
    return output


def frozen_card(
    name: str,
    make: Callable[[], nn.Module],
    *,
    size: int,
    bands: Sequence[str] = _BYTES,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    unit: str = "uint8",
    about: str = "a frozen module",
    license: str = UNKNOWN,
) -> Card:
    """Return the card of a frozen module, for `rsft.encoders` of a package.

    Args:
        name: the name in a recipe.
        make: returns the module with its weights, see `FrozenNetwork`. It is called
            whenever the encoder is loaded.
        size: side of its images in pixels.
        bands: names of its inputs, in order.
        mean: mean of each input in pre-training, in `unit`; None is 0.
        std: standard deviation of each input likewise; None is 1.
        unit: "uint8" for bytes scaled to 0-1, else a unit such as "db" or "uint16".
        about: one line with architecture and training data.
        license: license of the weights, an SPDX identifier or a text.
    """
    bands = tuple(bands)
    return Card(
        name=name,
        about=about,
        size=size,
        patch=1,
        bands=bands,
        unit=unit,
        mean=tuple(mean or [0.0] * len(bands)),
        std=tuple(std or [1.0] * len(bands)),
        license=license,
        weights=None,
        is_frozen=True,
        build=partial(build_frozen_network, name, make, bands),
    )


def build_frozen_network(
    name: str, make: Callable[[], nn.Module], bands: Names, size: int
) -> VisionTransformer:
    """Build the network of a frozen module, whose width is that of one output.

    Args:
        name: name of the encoder, for messages.
        make: returns the module with its weights.
        bands: names of its inputs.
        size: side of its images in pixels.

    Returns:
        A `FrozenNetwork`.

    Raises:
        RequestError: the module does not take inputs of this size, or returns something
            else than vectors, tokens or a feature map.
    """
    module = make().requires_grad_(False).eval()
    first = next(module.parameters(), torch.empty(0))
    image = torch.zeros(1, len(bands), size, size, device=first.device)
    try:
        with torch.no_grad():
            output = module(image)
    except (RuntimeError, ValueError, AssertionError) as error:
        raise RequestError(
            f"{name} does not take images of {size} x {size} pixels: {error}",
            "data.size",
            "take the size that its authors state",
        ) from error
    if not isinstance(output, Tensor) or output.ndim not in (2, 3, 4):
        raise RequestError(
            f"{name} returns no vectors (B, D), tokens (B, N, D) or maps (B, D, h, w)",
            "backbone.name",
            "wrap the module in one that returns vectors",
        )
    width = as_feature_map(output).shape[1]
    return cast(VisionTransformer, FrozenNetwork(module, width))


def register_encoder(name: str, module: nn.Module, *, size: int, **about: Any) -> Card:
    """Make a frozen module known as an encoder, in this process.

    Recipes and bundles name it from then on. A bundle stores the hash of its tensors,
    so register the same module before you load the bundle. Only the head is trained:
    `peft.method: linear-probe`, `backbone.pool: avg`.

    Args:
        name: the name in a recipe.
        module: the module, see `FrozenNetwork`; it is frozen and set to evaluation
            mode.
        size: side of its images in pixels.
        **about: see `frozen_card`.

    Returns:
        The card of the encoder.

    Raises:
        ValueError: an encoder of rsft has the name.

    Example:
        >>> module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 16))
        >>> register_encoder("flat", module, size=8).size
        8
    """
    current = CARDS.get(name)
    if current and not current.is_frozen:
        raise ValueError(f"an encoder of rsft is called {name}")
    card = frozen_card(name, lambda: module, size=size, **about)
    CARDS[name] = card
    return card
