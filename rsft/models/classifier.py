"""Frozen backbone + PEFT + head as one module."""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from rsft.errors import WeightsError
from rsft.peft import Adapted


def pooled_features(vit: VisionTransformer, x: Tensor, pool: str) -> Tensor:
    """Of a frozen network, (B, P, S, S) -> (B, D): the class token, or for "avg" the mean of the patch tokens."""
    return _pooled(vit, vit.forward_features(x), pool)


def _pooled(vit: VisionTransformer, tokens: Tensor, pool: str) -> Tensor:
    pooled = tokens[:, 0] if pool == "token" else tokens[:, vit.num_prefix_tokens :].mean(dim=1)
    return cast(Tensor, vit.fc_norm(pooled))  # the identity, where the norm comes before the pooling


class CosineHead(nn.Module):
    """Logits = scale * cos(feature, class weight); no bias, so a class's norm cannot favour it."""

    def __init__(self, width: int, classes: int, scale: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(classes, width))
        self.scale = scale
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)

    def forward(self, features: Tensor) -> Tensor:
        """(B, D) -> (B, C)."""
        return self.scale * F.linear(F.normalize(features, dim=-1), F.normalize(self.weight, dim=-1))


class Answer(NamedTuple):
    """Logits (B, C) and the pooled features (B, D) that they were made of."""

    logits: Tensor
    features: Tensor


class Classifier(nn.Module):
    """Chip to logits.

    Attributes:
        adapted: the transformer with its additive modules; theta and gamma are its trained parameters.
        head: from pooled features to logits.
        pool: "token" takes the class token, "avg" the mean of the patch tokens.
    """

    adapted: Adapted
    head: nn.Module

    def __init__(self, adapted: Adapted, head: nn.Module, pool: str) -> None:
        super().__init__()
        self.adapted, self.head, self.pool = adapted, head, pool

    def features(self, x: Tensor, stage: int | None = None) -> Tensor:
        """Images (B, P, S, S), or what `adapted.below` gave of them (B, N, D), at `stage` -> (B, D)."""
        below = self.adapted.below(x, stage) if x.ndim == 4 else x
        tokens = self.adapted.above(below, class_token_only=self.pool == "token", stage=stage)
        return _pooled(cast(VisionTransformer, self.adapted.vit), tokens, self.pool)

    def forward(self, x: Tensor) -> Tensor:
        """(B, P, S, S) -> logits (B, C)."""
        return self.answer(x).logits

    def answer(self, x: Tensor, stage: int | None = None) -> Answer:
        """(B, P, S, S), or as in `features` -> logits (B, C) and features (B, D)."""
        features = self.features(x, stage)
        return Answer(self.head(features), features)

    @property
    def theta(self) -> list[nn.Parameter]:
        """What the inner loop trains: additive modules and head."""
        return [*self.adapted.theta, *self.head.parameters()]

    def learned_state(self) -> dict[str, Tensor]:
        """Adapter, modulator and head, without the frozen backbone."""
        head = {f"head.{key}": value for key, value in self.head.state_dict().items()}
        return {**self.adapted.adapter_state(), **head}

    def load_learned_state(self, state: dict[str, Tensor]) -> None:
        """Take back what `learned_state` gave.

        Raises:
            WeightsError: keys or shapes that do not fit.
        """
        head = {key.removeprefix("head."): value for key, value in state.items() if key.startswith("head.")}
        try:
            self.adapted.load_adapter_state({k: v for k, v in state.items() if not k.startswith("head.")})
            self.head.load_state_dict(head)
        except (ValueError, RuntimeError) as error:
            raise WeightsError(str(error), "adapter or head", "use weights of the same recipe") from error
