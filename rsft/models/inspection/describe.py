"""Describe a bundle for a reader who did not train it."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

from rsft.backbones.card import Remote
from rsft.backbones.catalog import find_encoder
from rsft.data.imagery.contract import Contract
from rsft.data.imagery.stretch import IDENTITY_STRETCH, Stretch
from rsft.data.imagery.units import QUANTITIES
from rsft.errors import RequestError
from rsft.models.bundle.bundle import WEIGHTS_FILE, Bundle, find_bundle
from rsft.models.bundle.foreign_keys import find_foreign_keys
from rsft.models.uncertainty.calibrator import COVERAGE, OOD_FALSE_POSITIVE_RATE
from rsft.recipe.schema import BackboneSection
from rsft.types import JsonObject


def describe_bundle(folder: Path) -> JsonObject:
    """Describe a bundle, a folder as in `find_bundle`, as data for JSON.

    Returns:
        The content of `describe`; and folder, bytes (of all files) and ignored (keys of
        the recipe that do not act in a run that starts at the bundle, see
        `find_foreign_keys`).

    Raises:
        RequestError: `folder` contains no bundle.
        WeightsError: the bundle is damaged or changed.
        RecipeError: this version of rsft does not know its recipe.
    """
    from safetensors.numpy import load_file

    bundle = Bundle.load(folder)
    bundle_dir = find_bundle(folder)
    with suppress(TypeError):  # NumPy has no bfloat16, which only PyTorch reads
        arrays: Any = load_file(bundle_dir / WEIGHTS_FILE)
        bundle = replace(bundle, tensors=arrays)
    return describe(bundle) | {
        "folder": str(bundle_dir),
        "bytes": sum(path.stat().st_size for path in bundle_dir.iterdir()),
        "ignored": find_foreign_keys(bundle.recipe, bundle_dir),
    }


def describe(bundle: Bundle) -> JsonObject:
    """Describe an open bundle as data for JSON.

    `rsft bundle show`, the model card and the STAC item use it.

    Returns:
        name, sha256, rsft_version, parameters; runs (number of runs); classes (name,
        group and number of training chips of each); chip (`describe_contract`);
        backbone; licenses (source, name, license and restrictions of the backbone and
        the data); method (its recipe keys); metrics; confidence (None without a
        calibrator).
    """
    group_of: dict[str, str] = {}
    for group, names in bundle.groups.items():
        group_of |= dict.fromkeys(names, group)
    calibrator = bundle.calibrator
    confidence = calibrator and {
        "temperature": round(calibrator.temperature, 6),
        "chips": len(calibrator.scores),
        "coverage": COVERAGE,
        "ood_false_positive_rate": OOD_FALSE_POSITIVE_RATE,
        "promise": calibrator.promise(),
        "notes": calibrator.notes(bundle.classes),
    }
    return {
        "name": bundle.recipe.name,
        "sha256": bundle.sha256,
        "rsft_version": bundle.rsft_version,
        "parameters": sum(prod(tensor.shape) for tensor in bundle.tensors.values()),
        "runs": len(bundle.members),
        "classes": [
            {"name": name, "group": group_of.get(name), "train": count}
            for name, count in bundle.counts_by_class.items()
        ],
        "chip": describe_contract(bundle.contract),
        "backbone": {
            "name": bundle.recipe.backbone.name,
            "sha256": bundle.backbone_sha256,
        },
        "licenses": [entry.model_dump(mode="json") for entry in bundle.licenses],
        "method": bundle.recipe.peft.model_dump(mode="json"),
        "metrics": bundle.metrics,
        "confidence": confidence,
    }


def describe_contract(contract: Contract) -> dict[str, str]:
    """Describe in words what a chip must be.

    Returns:
        Subject -> description; the subjects are bands, unit, inputs, size, spacing, one
        stretch for each unit, and clipping if training chips lost their brightest
        pixels.
    """
    planes = contract.planes
    inputs = ", ".join(planes)
    if len(planes) > 1 and len(set(planes)) == 1:
        inputs = f"{planes[0]}, repeated"
    units = [
        f"{unit} ({QUANTITIES[unit]})" if unit in QUANTITIES else unit
        for unit in contract.units
    ]
    sentences = {
        "bands": ", ".join(contract.used_bands),
        "unit": " or ".join(units),
        "inputs": inputs,
        "size": _describe_size(contract),
        "spacing": "not checked (unknown, or not that of all training chips)",
    }
    if contract.digital:
        sentences["unit"] += f"; digital numbers are {contract.digital}"
    if contract.spacing_m:
        sentences["spacing"] = f"{contract.spacing_m:.4g} m per pixel"
    sentences |= _describe_stretches(contract)
    if contract.clipping_note:
        sentences["clipping"] = contract.clipping_note
    return sentences


def _describe_stretches(contract: Contract) -> dict[str, str]:
    sentences = {}
    for unit, stretches in contract.units.items():
        texts = [_describe_stretch(stretch) for stretch in stretches]
        sentence = texts[0]
        if len(set(texts)) > 1:
            by_plane = dict(zip(contract.planes, texts, strict=True))
            sentence = "; ".join(f"{name}: {text}" for name, text in by_plane.items())
        subject = "stretch" if len(contract.units) == 1 else f"stretch of {unit}"
        sentences[subject] = sentence
    return sentences


def _describe_size(contract: Contract) -> str:
    text = "the whole chip"
    if contract.crop:
        text = f"the central {contract.crop} x {contract.crop} pixels"
    if contract.side:
        text += f" (most training chips have {contract.side} x {contract.side} pixels)"
    return f"{text}, resized to {contract.size} x {contract.size} pixels"


def _describe_stretch(stretch: Stretch) -> str:
    if stretch == IDENTITY_STRETCH:
        return "bytes stay unchanged"
    high = "the maximum of the chip"
    if stretch.white is not None:
        high = f"{stretch.white:.4g}"
    sentence = f"{stretch.low:.4g} is black, {high} is white"
    if stretch.curve != "linear":
        sentence += f", {stretch.curve} between"
    if stretch.restored:
        sentence += "; the network receives the values, not the bytes"
    if stretch.top is not None:
        sentence += f", compressed above {stretch.high:.4g}"
    return sentence


class EncoderOrigin(NamedTuple):
    """Where the weights of an encoder come from.

    Attributes:
        about: one line with architecture and training data; empty if they are unknown.
        url: address of the published weights file; None if it has none, or if rsft
            contains the weights.
        repository: repository on the Hugging Face Hub, such as
            "timm/vit_tiny_patch16_224"; None if there is none.
    """

    about: str = ""
    url: str | None = None
    repository: str | None = None


def find_encoder_origin(section: BackboneSection) -> EncoderOrigin:
    """Return the origin of an encoder.

    Nothing is known of weights from a file that the recipe names.
    """
    if section.weights is not None:
        return EncoderOrigin()
    try:
        encoder = find_encoder(section.name)
    except RequestError:  # this version does not know the encoder
        return EncoderOrigin()
    if not isinstance(encoder.weights, Remote):
        return EncoderOrigin(encoder.about)
    url = encoder.weights.url
    match = re.match(r"https://huggingface\.co/([^/]+/[^/]+)/resolve/", url or "")
    return EncoderOrigin(encoder.about, url, match and match[1])
