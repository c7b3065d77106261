"""A classifier from a recipe, or from a bundle."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from rsft.backbones import Backbone, fit_inputs, load_backbone
from rsft.errors import RequestError, WeightsError
from rsft.models.averaging import Ensemble
from rsft.models.bundle.bundle import Bundle
from rsft.models.classifier import Classifier, CosineHead
from rsft.peft import METHODS, attach
from rsft.recipe.schema import Recipe


def load_encoder(recipe: Recipe, bands: Sequence[str]) -> Backbone:
    """The frozen backbone that `recipe` names, fitted to chips with `bands`.

    Raises:
        RequestError: no such backbone, or planes or an input size that it does not take.
        WeightsError: its weights cannot be used.
    """
    weights = recipe.backbone.weights
    backbone = load_backbone(recipe.backbone.name, recipe.data.size, Path(weights) if weights else None)
    return fit_inputs(backbone, bands, recipe.data.bands, recipe.data.remap)


def build_classifier(recipe: Recipe, classes: int, encoder: Backbone) -> Classifier:
    """A new classifier as `recipe` says, its adapter at zero and its head at random.

    Raises:
        RequestError: a site or block that the backbone does not have.
    """
    peft, meta = recipe.peft, recipe.meta
    try:
        method = METHODS[peft.method](**peft.model_dump(include=set(peft.keys)))
        adapted = attach(encoder.vit, method, modulated=meta is not None, start=meta.init if meta else 1.0)
    except ValueError as error:
        raise RequestError(str(error), f"section peft, backbone {encoder.name}") from error
    head: nn.Module = (
        CosineHead(encoder.width, classes, recipe.head.scale)
        if recipe.head.kind == "cosine"
        else nn.Linear(encoder.width, classes)
    )
    return Classifier(adapted, head, recipe.backbone.pool)


def load_classifier(bundle: Bundle, device: str = "auto") -> Classifier | Ensemble:
    """What a bundle holds, in evaluation mode: a classifier, merged, or the average of several runs.

    Raises:
        WeightsError: the backbone on this machine is not the one that the bundle was trained on.
    """
    place = choose_device(device)
    if len(bundle.members) > 1:
        classifier = _bare(bundle).to(place).eval()
        states = [{key: value.to(place) for key, value in state.items()} for state in bundle.members]
        return Ensemble(classifier, states)
    return load_merged(bundle).to(place).eval()


def load_merged(bundle: Bundle, run: int = 0) -> Classifier:
    """The classifier of one run of a bundle, merged, in evaluation mode, on the processor.

    Raises:
        WeightsError: as `load_classifier`.
    """
    classifier = load_adapted(bundle, "cpu", run)
    classifier.adapted.merge()
    return classifier


def load_adapted(bundle: Bundle, device: str = "auto", run: int = 0) -> Classifier:
    """The classifier of one run of a bundle, in evaluation mode, its modules where they can be looked at.

    Raises:
        WeightsError: as `load_classifier`.
    """
    classifier = _bare(bundle)
    classifier.load_learned_state(bundle.members[run])
    return classifier.to(choose_device(device)).eval()


def _bare(bundle: Bundle) -> Classifier:
    """The classifier of a bundle before anything was learned."""
    encoder = load_encoder(bundle.recipe, bundle.contract.bands)
    if encoder.sha256 != bundle.backbone_sha256:
        raise WeightsError(
            f"backbone {encoder.name} has other weights here ({encoder.sha256[:12]}) than in training",
            f"bundle made with {bundle.backbone_sha256[:12]}",
            "install the version of rsft that the bundle names, or train again",
        )
    return build_classifier(bundle.recipe, len(bundle.classes), encoder)


def choose_device(name: str) -> torch.device:
    """ "auto" takes a GPU where there is one.

    Raises:
        RequestError: "cuda" where there is none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise RequestError("there is no CUDA device on this machine", "train.device", "use device=auto or device=cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")
