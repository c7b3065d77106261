"""Verify that a bundle is complete, unchanged and usable on this machine."""

import math
import warnings
from dataclasses import dataclass
from pathlib import Path

import torch

from rsft.backbones.input_layer import resize_meta_inputs
from rsft.backbones.loading import find_card, make_backbone
from rsft.errors import RsftError, WeightsError
from rsft.models.bundle.bundle import (
    Bundle,
    find_altered_files,
    find_bundle,
    read_index,
    read_verified_bundle,
)
from rsft.models.classifier import Classifier
from rsft.models.loading import build_classifier, load_encoder


def build_meta_classifier(bundle: Bundle) -> Classifier:
    """Build a bundle's classifier on the meta device, without backbone weights.

    Raises:
        RequestError: this version of rsft does not know the backbone, or the backbone
            lacks a site.
    """
    recipe = bundle.recipe
    card = find_card(recipe.backbone.name, recipe.backbone.blocks)
    planes = len(bundle.contract.planes)
    with torch.device("meta"):
        encoder = make_backbone(card, card.build(recipe.data.size), "")
        if planes != len(card.bands):
            resize_meta_inputs(encoder, planes)
        return build_classifier(encoder, len(bundle.classes), recipe)


@dataclass(frozen=True)
class BundleVerification:
    """The result of `verify_bundle`.

    Attributes:
        sha256: the hash of the bundle; "" if its index cannot be read.
        sound: checks that passed, in sentences.
        faults: checks that failed, in sentences.
    """

    sha256: str
    sound: list[str]
    faults: list[str]

    def add(self, sound: str, faults: list[str]) -> None:
        """Add a check: its faults, or the sentence `sound` without faults."""
        self.faults.extend(faults)
        if not faults:
            self.sound.append(sound)


def verify_bundle(folder: Path, sha256: str | None = None) -> BundleVerification:
    """Check index, files, tensors and backbone of a bundle.

    The check continues after a fault where possible.

    Args:
        folder: a folder as in `find_bundle`.
        sha256: the expected hash, or its beginning, such as the `bundle_sha256` of a
            prediction or a run. An edited bundle can contain a correct hash of itself,
            but that differs from a hash that was stored elsewhere.

    Returns:
        The checks that passed and the faults.

    Raises:
        RequestError: `folder` contains no bundle.
    """
    folder = find_bundle(folder)
    try:
        index = read_index(folder)
    except RsftError as error:
        return BundleVerification("", [], [_error_sentence(error)])
    written = f"format {index.format}, written by rsft {index.rsft_version}"
    result = BundleVerification(index.sha256, [written], [])
    if sha256 is not None:
        is_expected = sha256 and index.sha256.startswith(sha256.lower())
        faults = [] if is_expected else [f"its hash is {index.sha256}, not {sha256}"]
        result.add("the hash is the expected one", faults)
    altered = find_altered_files(folder, index)
    result.add(f"{len(index.files)} files, each with the hash in the index", altered)
    if altered:
        return result
    try:
        bundle = read_verified_bundle(folder, index)
    except RsftError as error:
        result.faults.append(_error_sentence(error))
        return result
    checks = {
        f"{len(bundle.tensors)} tensors, finite, exactly those that the recipe's"
        " classifier learns": _tensor_faults,
        f"backbone {bundle.recipe.backbone.name} on this machine is that of the"
        " training": _backbone_faults,
    }
    for sound, find_faults in checks.items():
        try:
            faults = find_faults(bundle)
        except RsftError as error:
            faults = [_error_sentence(error)]
        result.add(sound, faults)
    return result


def _backbone_faults(bundle: Bundle) -> list[str]:
    encoder = load_encoder(bundle.recipe, bundle.contract.bands, bundle.backbone_sha256)
    if encoder.sha256 == bundle.backbone_sha256:
        return []
    return [
        f"backbone {encoder.name} has the hash {encoder.sha256}, not"
        f" {bundle.backbone_sha256} as in training"
    ]


def _tensor_faults(bundle: Bundle) -> list[str]:
    """Return the faults in names, shapes and values of the tensors of every run."""
    faults = []
    for number, member in enumerate(bundle.members, 1):
        run = f"run {number}: " if len(bundle.members) > 1 else ""
        try:
            with warnings.catch_warnings(action="ignore"):  # nothing is copied to meta
                build_meta_classifier(bundle).load_learned_state(member)
        except WeightsError as error:
            faults.append(f"{run}{error.message}")
        for name, tensor in member.items():
            is_valid = tensor.isfinite()
            if name == "gamma":
                is_valid |= tensor == -math.inf  # of a pruned site
            if not is_valid.all():
                faults.append(f"{run}{name} contains values that are not finite")
    calibrator = bundle.calibrator
    if calibrator and len(calibrator.means) != len(bundle.classes):
        faults.append(
            f"confidence of {len(calibrator.means)} classes, not {len(bundle.classes)}"
        )
    return faults


def _error_sentence(error: RsftError) -> str:
    if error.hint:
        return f"{error.message}; {error.hint}"
    return error.message
