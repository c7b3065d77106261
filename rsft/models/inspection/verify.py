"""Verify that a bundle is complete, unchanged and usable on this machine."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch

from rsft.backbones.input_layer import first_layer_path
from rsft.backbones.loading import Backbone, find_card
from rsft.errors import RsftError
from rsft.models.bundle.bundle import (
    Bundle,
    find_altered_files,
    find_bundle,
    read_index,
    read_verified_bundle,
)
from rsft.models.classifier import build_classifier, load_encoder
from rsft.peft import Modulator
from rsft.peft.modules.adapter_module import transformer_blocks


class MetaModel(NamedTuple):
    """The structure of a classifier on the meta device.

    Attributes:
        modulator: the modulator; None without one.
        shapes: the shape of every learned tensor, by name.
        depth: number of blocks.
        frozen_parameters: number of parameters that are not learned.
    """

    modulator: Modulator | None
    shapes: dict[str, tuple[int, ...]]
    depth: int
    frozen_parameters: int


def build_meta_model(bundle: Bundle) -> MetaModel:
    """Build a bundle's classifier on the meta device, without backbone weights.

    Raises:
        RequestError: this version of rsft does not know the backbone, or the backbone
            lacks a site.
    """
    recipe = bundle.recipe
    card = find_card(recipe.backbone.name, recipe.backbone.blocks)
    with torch.device("meta"):
        encoder = Backbone(
            card.name,
            "",
            card.build(recipe.data.size),
            card.mean,
            card.std,
            card.bands,
            card.unit,
        )
        classifier = build_classifier(encoder, len(bundle.classes), recipe)
    modulator = classifier.adapted.modulator
    shapes = {
        name: tuple(tensor.shape) for name, tensor in classifier.learned_state().items()
    }
    first_layer = f"{first_layer_path(encoder.vit)}.weight"
    planes = len(bundle.contract.planes)
    frozen = sum(
        parameter.numel()
        for parameter in classifier.parameters()
        if not parameter.requires_grad
    )
    # a trained input layer has one channel for each plane of the chips
    if first_layer in shapes:
        shapes[first_layer] = (shapes[first_layer][0], planes, *shapes[first_layer][2:])
    elif first_layer in (parameters := dict(encoder.vit.named_parameters())):
        filters = parameters[first_layer]
        frozen += filters[:, 0].numel() * (planes - filters.shape[1])
    return MetaModel(modulator, shapes, len(transformer_blocks(encoder.vit)), frozen)


@dataclass(frozen=True)
class BundleVerification:
    """The result of `verify_bundle`.

    The attributes are keys of `rsft bundle verify --json`.

    Attributes:
        folder: the folder of the bundle.
        sha256: the hash of the bundle; "" if its index cannot be read.
        sound: checks that passed, in sentences.
        faults: checks that failed, in sentences.
    """

    folder: Path
    sha256: str
    sound: list[str]
    faults: list[str]


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
        index, digest = read_index(folder)
    except RsftError as error:
        return BundleVerification(folder, "", [], [_error_sentence(error)])
    result = BundleVerification(
        folder,
        digest,
        [f"format {index.format}, written by rsft {index.rsft_version}"],
        [],
    )
    if sha256 is not None:
        if sha256 and digest.startswith(sha256.lower()):
            faults = []
        else:
            faults = [f"its hash is {digest}, not {sha256}"]
        _record_check(result, "the hash is the expected one", faults)
    altered = find_altered_files(folder, index)
    _record_check(
        result, f"{len(index.files)} files, each with the hash in the index", altered
    )
    if any("missing or altered" in fault for fault in altered):
        return result
    try:
        bundle = read_verified_bundle(folder, index, digest)
    except RsftError as error:
        result.faults.append(_error_sentence(error))
        return result
    tensors = (
        f"{len(bundle.tensors)} tensors, finite, exactly those that the recipe's"
        " classifier learns"
    )
    _record_check(result, tensors, _tensor_faults(bundle))
    try:
        encoder = load_encoder(bundle.recipe, bundle.contract.bands)
        fault = (
            f"backbone {encoder.name} has the hash {encoder.sha256}, not"
            f" {bundle.backbone_sha256} as in training"
        )
        if encoder.sha256 != bundle.backbone_sha256:
            faults = [fault]
        else:
            faults = []
    except RsftError as error:
        faults = [_error_sentence(error)]
    backbone = (
        f"backbone {bundle.recipe.backbone.name} on this machine is that of the"
        " training"
    )
    _record_check(result, backbone, faults)
    return result


def _record_check(result: BundleVerification, sound: str, faults: list[str]) -> None:
    result.faults.extend(faults)
    result.sound.extend([] if faults else [sound])


def _tensor_faults(bundle: Bundle) -> list[str]:
    """Return the faults in names, shapes and values of the tensors of every run."""
    try:
        meta_model = build_meta_model(bundle)
    except RsftError as error:
        return [_error_sentence(error)]
    faults = []
    for number, member in enumerate(bundle.members):
        run = f"run {number + 1}: " if len(bundle.members) > 1 else ""
        faults += [f"{run}{fault}" for fault in _member_faults(member, meta_model)]
    if bundle.calibrator is not None and bundle.calibrator.means.shape[0] != len(
        bundle.classes
    ):
        faults.append(
            f"confidence of {len(bundle.calibrator.means)} classes, not"
            f" {len(bundle.classes)}"
        )
    return faults


def _member_faults(member: dict[str, torch.Tensor], meta_model: MetaModel) -> list[str]:
    shapes = meta_model.shapes
    modulator = meta_model.modulator
    gamma = member.get("gamma")
    pruned: tuple[str, ...] = ()
    if (
        gamma is not None
        and modulator is not None
        and gamma.shape == modulator.gamma.shape
    ):
        values = modulator.by_site(gamma)
        # has no tensors
        pruned = tuple(f"{site}." for site in values if values[site].max() == -math.inf)
    faults = [
        f"{name} is missing"
        for name in shapes
        if name not in member and not name.startswith(pruned)
    ]
    for name, tensor in member.items():
        if name not in shapes:
            faults.append(f"{name} does not belong to the recipe's classifier")
        elif tuple(tensor.shape) != shapes[name]:
            faults.append(
                f"{name} is {_format_shape(tuple(tensor.shape))}, not"
                f" {_format_shape(shapes[name])}"
            )
        elif (
            tensor.isnan().any()
            or (tensor.isinf() & ((tensor > 0) | (name != "gamma"))).any()
        ):
            faults.append(f"{name} contains values that are not finite")
    return faults


def _format_shape(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "a number"


def _error_sentence(error: RsftError) -> str:
    if error.hint:
        return f"{error.message}; {error.hint}"
    return error.message
