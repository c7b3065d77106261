"""Frozen backbone + PEFT + head as one module, built from a recipe or from a bundle."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from rsft.backbones import Backbone, load_backbone
from rsft.bundle import Bundle
from rsft.errors import DataError, RequestError, WeightsError
from rsft.imagery.contract import Contract, Limits
from rsft.peft import METHODS, Adapted, attach
from rsft.recipe.schema import Recipe


def pooled_features(vit: VisionTransformer, x: Tensor, pool: str) -> Tensor:
    """(B, 3, S, S) -> (B, D): the class token, or for "avg" the mean of the patch tokens."""
    tokens: Tensor = vit.forward_features(x)
    return tokens[:, 0] if pool == "token" else tokens[:, vit.num_prefix_tokens :].mean(dim=1)


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


class Classifier(nn.Module):
    """Chip to logits.

    Attributes:
        adapted: the transformer with its additive modules; theta and gamma are its trained parameters.
        head: from pooled features to logits.
        pool: "token" takes the class token, "avg" the mean of the patch tokens.
    """

    def __init__(self, adapted: Adapted, head: nn.Module, pool: str) -> None:
        super().__init__()
        self.adapted, self.head, self.pool = adapted, head, pool

    def features(self, x: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, D)."""
        return pooled_features(cast(VisionTransformer, self.adapted.vit), x, self.pool)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, S, S) -> logits (B, C)."""
        logits: Tensor = self.head(self.features(x))
        return logits

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


def build_classifier(recipe: Recipe, classes: int, backbone: Backbone | None = None) -> tuple[Classifier, Backbone]:
    """A new classifier as `recipe` says, its adapter at zero and its head at random.

    Raises:
        RequestError: a site, block or input size that the backbone does not have.
        WeightsError: the backbone's weights cannot be used.
    """
    backbone = backbone or load_backbone(recipe.backbone.name, recipe.data.size)
    method = METHODS[recipe.peft.method](**recipe.peft.model_dump(exclude={"method"}))
    meta = recipe.meta
    try:
        adapted = attach(backbone.vit, method, modulated=meta is not None, start=meta.init if meta else 1.0)
    except ValueError as error:
        raise RequestError(str(error), f"section peft, backbone {backbone.name}") from error
    head: nn.Module = (
        CosineHead(backbone.width, classes, recipe.head.scale)
        if recipe.head.kind == "cosine"
        else nn.Linear(backbone.width, classes)
    )
    return Classifier(adapted, head, recipe.backbone.pool), backbone


def load_classifier(bundle: Bundle, device: str = "auto") -> Classifier:
    """The classifier that a bundle holds, merged, in evaluation mode.

    Raises:
        WeightsError: the backbone on this machine is not the one that the bundle was trained on.
    """
    classifier, backbone = build_classifier(bundle.recipe, len(bundle.classes))
    if backbone.sha256 != bundle.backbone_sha256:
        raise WeightsError(
            f"backbone {backbone.name} has other weights here ({backbone.sha256[:12]}) than in training",
            f"bundle made with {bundle.backbone_sha256[:12]}",
            "install the version of rsft that the bundle names, or train again",
        )
    classifier.load_learned_state(bundle.tensors)
    classifier.adapted.merge()
    return classifier.to(choose_device(device)).eval()


def contract_of(recipe: Recipe, backbone: Backbone, bands: Sequence[str], units: dict[str, Limits]) -> Contract:
    """What this recipe demands of a chip with `bands`, in `units` with the values that become 0 and 255.

    Raises:
        DataError: a number of bands that the backbone cannot take.
    """
    if len(bands) not in (1, 3):
        raise DataError(f"{len(bands)} bands ({', '.join(bands)})", recipe.data.root, "use chips of one or three bands")
    data = recipe.data
    return Contract(
        units=units, bands=tuple(bands), crop=data.crop, size=data.size, mean=backbone.mean, std=backbone.std
    )


def choose_device(name: str) -> torch.device:
    """ "auto" takes a GPU where there is one.

    Raises:
        RequestError: "cuda" where there is none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise RequestError("there is no CUDA device on this machine", "train.device", "use device=auto or device=cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")
