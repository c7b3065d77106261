"""Build a classifier from the sections of a recipe, or load it from a bundle."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from rsft.backbones import Backbone, fit_inputs, load_backbone
from rsft.errors import RequestError, WeightsError
from rsft.models.averaging import Ensemble
from rsft.models.bundle.bundle import Bundle
from rsft.models.classifier import Classifier, CosineHead, HeadAverage, move_network
from rsft.peft import attach
from rsft.peft.modules.adapter_module import transformer_blocks
from rsft.recipe.schema import BackboneSection, DataSection, HeadSection, MetaSection, PeftSection


def load_encoder(section: BackboneSection, data: DataSection, bands: Sequence[str]) -> Backbone:
    """Load the frozen backbone of a recipe and fit its input layer to the bands of the chips.

    Args:
        section: the section `backbone` of the recipe.
        data: the section `data` of the recipe.
        bands: names of the chips' bands.

    Returns:
        The backbone.

    Raises:
        RequestError: the backbone is unknown, or does not support the planes or the input size.
        WeightsError: the weights of the backbone cannot be used.
    """
    weights = Path(section.weights) if section.weights else None
    backbone = load_backbone(section.name, data.size, weights, section.blocks)
    return fit_inputs(backbone, bands, data.bands, data.remap)


def build_classifier(
    encoder: Backbone,
    classes: int,
    peft: PeftSection,
    meta: MetaSection | None,
    head: HeadSection,
    pool: Literal["token", "avg"],
) -> Classifier:
    """Build a new classifier: PEFT modules in their initial state and a random head.

    Args:
        encoder: the backbone, from `load_encoder`.
        classes: number of classes.
        peft: the section `peft` of the recipe.
        meta: the section `meta` of the recipe; None for plain PEFT.
        head: the section `head` of the recipe.
        pool: the key `backbone.pool` of the recipe.

    Returns:
        The classifier.

    Raises:
        RequestError: the backbone lacks a site, a block or the class token.
    """
    if pool == "token" and getattr(encoder.vit, "cls_token", None) is None:
        raise RequestError(f"{encoder.name} has no class token", "backbone.pool", "set backbone.pool=avg")
    try:
        adapted = attach(
            encoder.vit, peft.build(), learn_scales=meta is not None, init_scale=meta.init_scale if meta else 1.0
        )
    except ValueError as error:
        raise RequestError(str(error), f"section peft, backbone {encoder.name}") from error
    try:
        return Classifier(adapted, build_head(encoder.width, classes, head), pool)
    except ValueError as error:
        hint = f"name blocks from 0 to {len(transformer_blocks(encoder.vit)) - 2} of a plain vision transformer"
        raise RequestError(str(error), f"head.earlier_blocks, backbone {encoder.name}", hint) from error


def build_head(width: int, classes: int, section: HeadSection) -> nn.Module:
    """Build a head with random weights: linear or cosine, or a `HeadAverage` of such heads."""

    def build() -> nn.Module:
        is_cosine = section.kind == "cosine"
        return CosineHead(width, classes, section.logit_scale) if is_cosine else nn.Linear(width, classes)

    final = build()
    return HeadAverage(final, {x: build() for x in section.earlier_blocks}) if section.earlier_blocks else final


def load_classifier(bundle: Bundle, device: str = "auto") -> Classifier | Ensemble:
    """Load the classifier of a bundle in evaluation mode.

    Args:
        bundle: an open bundle.
        device: "auto", "cpu" or "cuda".

    Returns:
        A merged classifier, or for several runs their ensemble.

    Raises:
        WeightsError: the backbone on this machine differs from that of the training.
    """
    target = choose_device(device)
    if len(bundle.members) > 1:
        classifier = move_network(_build_untrained(bundle), target).eval()
        states = [{key: value.to(target) for key, value in state.items()} for state in bundle.members]
        return Ensemble(classifier, states)
    return move_network(load_merged_classifier(bundle), target).eval()


def load_merged_classifier(bundle: Bundle, run: int = 0) -> Classifier:
    """Load the classifier of one run of a bundle, merged, in evaluation mode, on the CPU.

    Args:
        bundle: an open bundle.
        run: index of the run, for a bundle of several runs.

    Raises:
        WeightsError: the same cause as in `load_classifier`.
    """
    classifier = load_unmerged_classifier(bundle, "cpu", run)
    classifier.adapted.merge()
    return classifier


def load_unmerged_classifier(bundle: Bundle, device: str = "auto", run: int = 0) -> Classifier:
    """Load the classifier of one run of a bundle in evaluation mode, with its PEFT modules attached.

    Args:
        bundle: an open bundle.
        device: "auto", "cpu" or "cuda".
        run: index of the run, for a bundle of several runs.

    Raises:
        WeightsError: the same cause as in `load_classifier`.
    """
    classifier = _build_untrained(bundle)
    classifier.load_learned_state(bundle.members[run])
    return move_network(classifier, choose_device(device)).eval()


def _build_untrained(bundle: Bundle) -> Classifier:
    """Build the classifier of a bundle before training."""
    encoder = load_encoder(bundle.recipe.backbone, bundle.recipe.data, bundle.contract.bands)
    if encoder.sha256 != bundle.backbone_sha256:
        raise WeightsError(
            f"the weights of backbone {encoder.name} ({encoder.sha256[:12]}) differ from those of the training",
            f"bundle with backbone {bundle.backbone_sha256[:12]}",
            f"install rsft {bundle.rsft_version}, which wrote the bundle, or train again",
        )
    recipe = bundle.recipe
    return build_classifier(encoder, len(bundle.classes), recipe.peft, recipe.meta, recipe.head, recipe.backbone.pool)


def choose_device(name: str) -> torch.device:
    """Return the torch device of "cpu", "cuda" or "auto", which takes a GPU if the machine has one.

    Raises:
        RequestError: "cuda" on a machine without a GPU.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise RequestError("this machine has no CUDA device", "train.device", "use device=auto or device=cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")
