"""Describe input, output and settings of a bundle in the fields of the STAC extension Machine Learning Model (MLM)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from rsft.data.imagery.bands import BANDS
from rsft.data.imagery.contract import Contract
from rsft.data.imagery.stretch import IDENTITY_STRETCH, Stretch
from rsft.data.imagery.units import DIGITAL_UNITS
from rsft.models.bundle.bundle import Bundle
from rsft.models.inspection.describe import describe_contract

TASKS = ("classification", "scene-classification")
"""Both names of the task: the general one, and the one for a class of a whole image."""

HYPERPARAMETER_SECTIONS = ("peft", "meta", "head", "loss", "train")
"""Sections of the recipe that are hyperparameters. Others name files and folders of a machine."""

_MACHINE_KEYS = ("train.start_bundle", "train.device")

_ENTRY_POINT = {"format": "python", "expression": "rsft.data.imagery.contract:Contract.to_input"}
_UNITS = {"db": "dB", "gamma0_db": "dB", "sigma0": "1", "gamma0": "1", "beta0": "1"}  # as STAC writes them
_EXPRESSION = "rio-calc"  # infix expressions of bands, such as (B08 - B04) / (B08 + B04)


def list_stac_bands(contract: Contract) -> list[dict[str, Any]]:
    """Return the bands that a model reads, and its planes that are computed from them.

    Args:
        contract: the contract of the bundle.

    Returns:
        Band objects of STAC 1.1, each with its name, and unit or data type as far as they are defined.
    """
    unit = next(iter(contract.units))
    pixels: dict[str, Any] = {"data_type": unit} if unit in DIGITAL_UNITS else {}
    pixels |= {"unit": _UNITS[unit]} if unit in _UNITS else {}
    read = [{"name": band, "description": contract.digital or unit, **pixels} for band in contract.used_bands]
    computed = dict.fromkeys(plane for plane in contract.planes if plane not in BANDS)
    return read + [{"name": plane, "description": "computed from the bands"} for plane in computed]


def describe_input(contract: Contract) -> dict[str, Any]:
    """Return the input of a network: planes, shape, and the way from the pixels of a chip to it.

    Args:
        contract: the contract of the bundle.

    Returns:
        A Model Input Object. Scaling and resizing describe steps of the function that makes all of them.
    """
    unit, stretches = next(iter(contract.units.items()))
    planes = zip(stretches, contract.mean, contract.std, strict=True)
    sentences = "; ".join(f"{subject}: {text}" for subject, text in describe_contract(contract).items())
    resizing = _resize_type(contract)
    return {
        "name": "chip",
        "description": f"An image of one object, read in {unit}. {sentences}.",
        "bands": [_plane_reference(plane) for plane in contract.planes],
        "input": {
            "shape": [-1, len(contract.planes), contract.size, contract.size],
            "dim_order": ["batch", "bands", "height", "width"],
            "data_type": "float32",
        },
        "value_scaling": [describe_scaling(*plane) for plane in planes],
        **({"resize_type": resizing} if resizing else {}),
        "pre_processing_function": {**_ENTRY_POINT, "description": _processing_steps(contract)},
    }


def describe_scaling(stretch: Stretch, mean: float, std: float) -> dict[str, Any]:
    """Return how the values of a plane become those of the network's input.

    Args:
        stretch: mapping of the values to bytes.
        mean: mean of the plane, 0-1.
        std: standard deviation of the plane, 0-1.

    Returns:
        A Value Scaling Object: a z-score of bytes, else a formula in which A is the plane, in the syntax of numpy.

    Example:
        >>> describe_scaling(Stretch(), mean=0.5, std=0.25)
        {'type': 'z-score', 'mean': 127.5, 'stddev': 63.75}
    """
    if stretch == IDENTITY_STRETCH:
        return {"type": "z-score", "mean": 255 * mean, "stddev": 255 * std}
    if stretch.high is None:
        return {"type": "processing", **_ENTRY_POINT, "description": "the maximum of the chip becomes white"}
    low, high = stretch.low, stretch.high
    values, black, white = f"clip(A, {low!r}, {high!r})", low, high
    if stretch.curve == "log1p":
        values, (black, white) = f"log1p(clip(A, {max(low, 0.0)!r}, {high!r}))", np.log1p([max(low, 0.0), high])
    expression = f"(rint(255 * ({values} - {float(black)!r}) / {float(white - black)!r}) / 255 - {mean!r}) / {std!r}"
    return {"type": "processing", "format": "gdal-calc", "expression": expression}


def describe_output(bundle: Bundle) -> dict[str, Any]:
    """Return the output of a bundle: one logit per class, and how it becomes a probability.

    Args:
        bundle: the open bundle.

    Returns:
        A Model Output Object.
    """
    temperature = 1.0 if bundle.calibrator is None else bundle.calibrator.temperature
    calibrated = "calibrated on validation chips" if bundle.calibrator else "not calibrated"
    notes = [f"probabilities are softmax(logits / {temperature:.6g}), {calibrated}"]
    notes += [f"the mean over {len(bundle.members)} runs"] if len(bundle.members) > 1 else []
    notes += [f"the mean over views: {bundle.recipe.evaluate.tta}"] if bundle.recipe.evaluate.tta != "none" else []
    return {
        "name": "logits",
        "tasks": list(TASKS),
        "result": {"shape": [-1, len(bundle.classes)], "dim_order": ["batch", "class"], "data_type": "float32"},
        "classification:classes": [
            {"value": index, "name": _class_id(name, index), "description": name}
            for index, name in enumerate(bundle.classes)
        ],
        "post_processing_function": {
            "format": "python",
            "expression": "rsft.models.uncertainty.conformal:log_softmax",
            "description": "; ".join(notes),
        },
    }


def describe_hyperparameters(bundle: Bundle) -> dict[str, Any]:
    """Return the settings of the training, by recipe key.

    Args:
        bundle: the open bundle.
    """
    flat: Mapping[str, Any] = bundle.recipe.model_dump(mode="json")
    sections = {name: flat[name] for name in HYPERPARAMETER_SECTIONS if flat[name] is not None}
    settings = {f"{name}.{key}": value for name, section in sections.items() for key, value in section.items()}
    known = {key: value for key, value in settings.items() if value is not None and key not in _MACHINE_KEYS}
    return {"seed": bundle.recipe.seed, **known}


def model_name(name: str) -> str:
    """Return a name as MLM allows it: letters, digits, dots, hyphens and spaces; a letter first.

    Args:
        name: name of a recipe.

    Example:
        >>> model_name("7 ships (new)")
        'model-7 ships -new'
    """
    plain = re.sub(r"[^a-zA-Z0-9_.\- ]", "-", name).strip("_.- ")
    return plain if re.match(r"[a-zA-Z]..", plain) else f"model-{plain}".rstrip("-")


def _plane_reference(plane: str) -> Any:
    return plane if plane in BANDS else {"name": plane, "format": _EXPRESSION, "expression": plane}


def _resize_type(contract: Contract) -> str | None:
    """Return the method of resizing; None if it depends on the size of the chip."""
    if contract.crop is None:
        return None
    if contract.crop == contract.size:
        return "crop"
    return "interpolation-area" if contract.crop > contract.size else "interpolation-linear"


def _processing_steps(contract: Contract) -> str:
    crop = f"the central {contract.crop} x {contract.crop} pixels are cut out, " if contract.crop else ""
    return (
        f"All steps, with the contract in bundle.json: the planes are computed from the bands and stretched to bytes, "
        f"{crop}the image is resized to {contract.size} x {contract.size} pixels (by area if it shrinks, else "
        f"bilinear), and bytes / 255 are normalized by mean and standard deviation. value_scaling and resize_type "
        f"describe steps of this function, not further ones."
    )


def _class_id(name: str, index: int) -> str:
    """Return a name of letters, digits, hyphens and underscores."""
    return re.sub(r"[^0-9A-Za-z_-]+", "-", name).strip("-") or f"class-{index}"
