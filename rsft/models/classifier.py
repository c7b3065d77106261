"""The classifier: frozen backbone, PEFT modules and head as one module."""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from rsft.errors import WeightsError
from rsft.peft import AdaptedModel


def extract_features(vit: VisionTransformer, x: Tensor, pool: str) -> Tensor:
    """Return pooled features of a transformer.

    Args:
        vit: a timm vision transformer.
        x: images (B, P, S, S).
        pool: "token" for the class token, "avg" for the mean of the patch tokens.

    Returns:
        Features (B, D).
    """
    return _pool(vit, vit.forward_features(x), pool)


def _pool(vit: VisionTransformer, tokens: Tensor, pool: str) -> Tensor:
    pooled = tokens[:, 0] if pool == "token" else tokens[:, vit.num_prefix_tokens :].mean(dim=1)
    return cast(Tensor, vit.fc_norm(pooled))  # identity if the network normalizes before pooling


class CosineHead(nn.Module):
    """Cosine head: logit = scale * cos(feature, class weight), without bias. The norm of a weight has no effect.

    Args:
        width: D, the width of the features.
        classes: number of classes.
        scale: factor from a cosine to a logit.
    """

    def __init__(self, width: int, classes: int, scale: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(classes, width))
        self.scale = scale
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)

    def forward(self, features: Tensor) -> Tensor:
        """Return the logits of features.

        Args:
            features: (B, D).

        Returns:
            (B, C).
        """
        return self.scale * F.linear(F.normalize(features, dim=-1), F.normalize(self.weight, dim=-1))


class Prediction(NamedTuple):
    """Logits (B, C) and the pooled features (B, D) that they were computed from."""

    logits: Tensor
    features: Tensor


class Classifier(nn.Module):
    """A network that maps chips to logits.

    Args:
        adapted: the transformer with its PEFT modules.
        head: a module that maps pooled features to logits.
        pool: "token" for the class token, "avg" for the mean of the patch tokens.
    """

    adapted: AdaptedModel
    head: nn.Module

    def __init__(self, adapted: AdaptedModel, head: nn.Module, pool: str) -> None:
        super().__init__()
        self.adapted, self.head, self.pool = adapted, head, pool

    def features(self, x: Tensor, stage: int | None = None) -> Tensor:
        """Return pooled features.

        Args:
            x: images (B, P, S, S), or the output of `adapted.run_frozen_prefix` (B, N, D).
            stage: the stage that was passed to `run_frozen_prefix` (default: the first adapted stage).

        Returns:
            Features (B, D).
        """
        tokens = self.adapted.run_frozen_prefix(x, stage) if x.ndim == 4 else x
        tokens = self.adapted.run_adapted_suffix(tokens, class_token_only=self.pool == "token", stage=stage)
        return _pool(cast(VisionTransformer, self.adapted.vit), tokens, self.pool)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of images.

        Args:
            x: the same as in `features`.

        Returns:
            Logits (B, C).
        """
        return self.predict(x).logits

    def predict(self, x: Tensor, stage: int | None = None) -> Prediction:
        """Return logits and features.

        Args:
            x: the same as in `features`.
            stage: the same as in `features`.

        Returns:
            Logits (B, C) and features (B, D).
        """
        features = self.features(x, stage)
        return Prediction(self.head(features), features)

    @property
    def theta(self) -> list[nn.Parameter]:
        """The parameters that the inner loop trains: those of PEFT modules and head."""
        return [*self.adapted.theta, *self.head.parameters()]

    def learned_state(self) -> dict[str, Tensor]:
        """Return all learned tensors, without the frozen backbone.

        Returns:
            Name -> tensor: those of the PEFT modules, "gamma" and "head.*".
        """
        head = {f"head.{key}": value for key, value in self.head.state_dict().items()}
        return {**self.adapted.adapter_state(), **head}

    def load_learned_state(self, state: dict[str, Tensor]) -> None:
        """Load a state from `learned_state`.

        Args:
            state: name -> tensor.

        Raises:
            WeightsError: keys or shapes do not fit.
        """
        head = {key.removeprefix("head."): value for key, value in state.items() if key.startswith("head.")}
        try:
            self.adapted.load_adapter_state({k: v for k, v in state.items() if not k.startswith("head.")})
            self.head.load_state_dict(head)
        except (ValueError, RuntimeError) as error:
            raise WeightsError(str(error), "adapter or head", "use weights of the same recipe") from error
