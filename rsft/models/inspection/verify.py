"""Whether a bundle is whole, unaltered, and of use on this machine."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rsft.errors import RsftError
from rsft.models.bundle.bundle import Bundle, find_bundle, open_checked
from rsft.models.bundle.manifest import altered, read_index
from rsft.models.factory import load_encoder
from rsft.models.inspection.meta_model import draw

if TYPE_CHECKING:
    from torch import Tensor

    from rsft.models.inspection.meta_model import Blueprint


@dataclass(frozen=True)
class Verdict:
    """What was found.

    Attributes:
        folder: of the bundle.
        sha256: of the bundle; "" where its index cannot be read.
        sound: what is as it should be, in sentences.
        faults: what is not.
    """

    folder: Path
    sha256: str
    sound: list[str]
    faults: list[str]


def verify(folder: Path, sha256: str | None = None) -> Verdict:
    """Look for everything that could be wrong with the bundle at `folder`, and go on after a fault where that makes
    sense.

    Args:
        sha256: what its hash must be, or begin with: the `bundle_sha256` of a prediction or a run. Whoever edits a
            bundle can make the hash in it fit again, but not one that is kept elsewhere.

    Raises:
        RequestError: there is no bundle.
    """
    folder = find_bundle(folder)
    verdict = Verdict(folder, "", [], [])
    try:
        index, digest = read_index(folder)
    except RsftError as error:
        return Verdict(folder, "", [], [_words(error)])
    verdict = Verdict(folder, digest, [f"format {index.format}, written by rsft {index.rsft_version}"], [])
    if sha256 is not None:
        same = bool(sha256) and digest.startswith(sha256.lower())
        _note(verdict, "it is the bundle that was asked for", [] if same else [f"its hash is {digest}, not {sha256}"])
    wrong = altered(folder, index)
    _note(verdict, f"{len(index.files)} files, each with the hash in the index", wrong)
    if any("missing or altered" in fault for fault in wrong):
        return verdict
    try:
        bundle = open_checked(folder, index, digest)
    except RsftError as error:
        verdict.faults.append(_words(error))
        return verdict
    count = f"{len(bundle.tensors)} tensors, finite, exactly those that the recipe's classifier learns"
    _note(verdict, count, _tensor_faults(bundle))
    _note(verdict, f"backbone {bundle.recipe.backbone.name} here is the one of the training", _backbone_faults(bundle))
    return verdict


def _note(verdict: Verdict, sound: str, faults: list[str]) -> None:
    verdict.faults.extend(faults)
    verdict.sound.extend([] if faults else [sound])


def _tensor_faults(bundle: Bundle) -> list[str]:
    """Names, shapes and values, of every run of an average."""
    try:
        blueprint = draw(bundle)
    except RsftError as error:
        return [_words(error)]
    faults = []
    for number, member in enumerate(bundle.members):
        run = f"run {number + 1}: " if len(bundle.members) > 1 else ""
        faults += [f"{run}{fault}" for fault in _member_faults(member, blueprint)]
    if bundle.confidence is not None and bundle.confidence.means.shape[0] != len(bundle.classes):
        faults.append(f"confidence of {len(bundle.confidence.means)} classes, not {len(bundle.classes)}")
    return faults


def _member_faults(member: dict[str, Tensor], blueprint: Blueprint) -> list[str]:
    shapes, gamma = blueprint.shapes, member.get("gamma")
    pruned: tuple[str, ...] = ()
    if gamma is not None and len(gamma) == len(blueprint.sites):  # a site that is off needs no tensors
        pruned = tuple(f"{s}." for s, value in zip(blueprint.sites, gamma.tolist(), strict=True) if value == -math.inf)
    faults = [f"{name} is missing" for name in shapes if name not in member and not name.startswith(pruned)]
    for name, tensor in member.items():
        if name not in shapes:
            faults.append(f"{name} is not of the recipe's classifier")
        elif tuple(tensor.shape) != shapes[name]:
            faults.append(f"{name} is {_sides(tuple(tensor.shape))}, not {_sides(shapes[name])}")
        elif tensor.isnan().any() or (tensor.isinf() & ((tensor > 0) | (name != "gamma"))).any():
            faults.append(f"{name} holds infinite values or none")
    return faults


def _sides(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "a number"


def _backbone_faults(bundle: Bundle) -> list[str]:
    try:
        encoder = load_encoder(bundle.recipe, bundle.contract.bands)
    except RsftError as error:
        return [_words(error)]
    if encoder.sha256 != bundle.backbone_sha256:
        return [f"backbone {encoder.name} has the hash {encoder.sha256} here, {bundle.backbone_sha256} in training"]
    return []


def _words(error: RsftError) -> str:
    return f"{error.what}; {error.fix}" if error.fix else error.what
