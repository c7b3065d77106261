"""Build the classifier of a recipe, and load that of a bundle."""

import logging
from collections.abc import Sequence
from pathlib import Path

from torch import nn

from rsft.backbones import Backbone, fit_inputs, load_backbone
from rsft.backbones.frozen_network import FrozenNetwork
from rsft.backbones.loading import with_shrunk_windows
from rsft.errors import RequestError, WeightsError
from rsft.models.averaging import Ensemble
from rsft.models.bundle.bundle import Bundle
from rsft.models.classifier import Classifier, CosineHead, HeadAverage
from rsft.models.devices import choose_device, move_network
from rsft.peft import attach
from rsft.peft.methods.registry import packages_of
from rsft.peft.modules.adapter_module import transformer_blocks
from rsft.recipe.schema import HeadSection, Recipe

_log = logging.getLogger(__name__)


def load_encoder(
    recipe: Recipe, bands: Sequence[str], sha256: str | None = None
) -> Backbone:
    """Load a recipe's frozen backbone, and fit its input layer to the bands.

    Args:
        recipe: the recipe.
        bands: names of the chips' bands.
        sha256: hash of the backbone in a bundle, which may be one of rsft 0.2.

    Raises:
        RequestError: the backbone is unknown, or does not support the planes or the
            input size.
        WeightsError: the weights of the backbone cannot be used.
    """
    section = recipe.backbone
    data = recipe.data
    weights = Path(section.weights) if section.weights else None
    encoder = load_backbone(
        section.name, data.size, weights, section.blocks, recipe.seed
    )
    if sha256 is not None and sha256 == encoder.shrunk_sha256:
        encoder = with_shrunk_windows(encoder)
    return fit_inputs(encoder, bands, data.bands, data.remap)


def build_classifier(encoder: Backbone, classes: int, recipe: Recipe) -> Classifier:
    """Build a new classifier on the backbone of a recipe.

    PEFT modules have their initial state, and the head is random.

    Args:
        encoder: the backbone, from `load_encoder`.
        classes: number of classes.
        recipe: the recipe; it has constant scales without a section `meta`.

    Raises:
        RequestError: the backbone lacks a site, a block or the class token, or has
            random weights that stay.
    """
    meta = recipe.meta
    pool = recipe.backbone.pool
    if pool == "token" and getattr(encoder.vit, "cls_token", None) is None:
        raise RequestError(
            f"{encoder.name} has no class token",
            "backbone.pool",
            "set backbone.pool=avg",
        )
    try:
        init_scale = meta.init_scale if meta else 1.0
        adapted = attach(
            encoder.vit,
            recipe.peft.build(),
            learn_scales=meta is not None,
            init_scale=init_scale,
        )
    except ValueError as error:
        hint = "set peft.method=full" if encoder.is_random else ""
        if isinstance(encoder.vit, FrozenNetwork):
            hint = "it is one frozen module without blocks: peft.method=linear-probe"
        raise RequestError(
            str(error), f"section peft, backbone {encoder.name}", hint
        ) from error
    if encoder.is_random and not all(
        parameter.requires_grad for parameter in encoder.vit.parameters()
    ):
        raise RequestError(
            (
                f"{encoder.name} starts at random weights, and {recipe.peft.title} does"
                " not train all of them"
            ),
            "peft.method",
            "set peft.method=full",
        )
    try:
        return Classifier(
            adapted, build_head(encoder.width, classes, recipe.head), pool
        )
    except ValueError as error:
        hint = (
            f"name blocks from 0 to {len(transformer_blocks(encoder.vit)) - 2} of a"
            " plain vision transformer"
        )
        raise RequestError(
            str(error), f"head.earlier_blocks, backbone {encoder.name}", hint
        ) from error


def build_head(width: int, classes: int, section: HeadSection) -> nn.Module:
    """Build a head with random weights: linear, cosine, or a `HeadAverage`."""

    def build() -> nn.Module:
        if section.kind == "cosine":
            return CosineHead(width, classes, section.logit_scale)
        return nn.Linear(width, classes)

    final = build()
    if section.earlier_blocks:
        return HeadAverage(final, {x: build() for x in section.earlier_blocks})
    return final


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
        states = [
            {key: value.to(target) for key, value in state.items()}
            for state in bundle.members
        ]
        return Ensemble(classifier, states)
    return move_network(load_merged_classifier(bundle), target).eval()


def load_merged_classifier(bundle: Bundle, run: int = 0) -> Classifier:
    """Load one run of a bundle, merged, in evaluation mode, on the CPU.

    Args:
        bundle: an open bundle.
        run: index of the run, for a bundle of several runs.

    Raises:
        WeightsError: the same cause as in `load_classifier`.
    """
    classifier = load_unmerged_classifier(bundle, "cpu", run)
    classifier.adapted.merge()
    return classifier


def load_unmerged_classifier(
    bundle: Bundle, device: str = "auto", run: int = 0
) -> Classifier:
    """Load one run of a bundle in evaluation mode, with PEFT modules attached.

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
    encoder = load_encoder(bundle.recipe, bundle.contract.bands, bundle.backbone_sha256)
    if encoder.sha256 != bundle.backbone_sha256:
        raise WeightsError(
            (
                f"the weights of backbone {encoder.name} ({encoder.sha256[:12]}) differ"
                " from those of the training"
            ),
            f"bundle with backbone {bundle.backbone_sha256[:12]}",
            (
                f"install rsft {bundle.rsft_version}, which wrote the bundle, or train"
                " again"
            ),
        )
    installed = packages_of(bundle.recipe.peft.build())
    for name, version in bundle.packages.items():
        if installed.get(name, version) != version:
            _log.warning(
                "the adapter was trained with %s %s, and %s is installed: outputs may"
                " differ; install %s==%s",
                name,
                version,
                installed[name],
                name,
                version.partition(" ")[0],
            )
    return build_classifier(encoder, len(bundle.classes), bundle.recipe)
