"""Export the whole pipeline of a bundle as one graph, and compare it with `rsft predict`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from rsft.data.imagery.contract import center_crop
from rsft.data.imagery.reader import read_chip
from rsft.errors import RequestError, WeightsError
from rsft.inference.engines.base import ExportFormat
from rsft.inference.engines.graph import GraphFormat
from rsft.inference.export.metadata import export_metadata, write_export_metadata
from rsft.inference.export.parity import compute_outputs
from rsft.inference.export.pixel_graph import OOD_DISTANCE, PIXELS, PROBABILITIES, WholePipeline
from rsft.inference.export.reference_chips import PARITY_CHIPS, LabeledChips
from rsft.inference.export.traceable import trace
from rsft.models.averaging import with_tta
from rsft.models.bundle.bundle import Bundle
from rsft.models.factory import load_classifier
from rsft.models.uncertainty.temperature_scaling import log_softmax
from rsft.utils.atomic_files import atomic_folder

TOLERANCE = 1e-4
"""Largest accepted difference of a probability, and of an OOD distance (relative to the largest one above 1)."""

_TYPICAL_VALUES = {"uint8": 100.0, "uint16": 1000.0, "amplitude": 100.0, "intensity": 1e4}  # 0.1 for calibrated units
_NOISE_CHIPS = 8


@dataclass(frozen=True)
class PixelInput:
    """The input of a whole pipeline.

    Attributes:
        unit: unit of the pixels.
        side: side of the chips in pixels.
    """

    unit: str
    side: int


class PipelineDifference(NamedTuple):
    """Difference of a graph from `rsft predict`.

    Attributes:
        largest: largest difference of a probability.
        distance: largest difference of an OOD distance, divided by the largest one if that is above 1.
    """

    largest: float
    distance: float


def choose_input(bundle: Bundle, unit: str | None, side: int | None) -> PixelInput:
    """Return unit and size of the chips that a graph takes.

    Args:
        bundle: the bundle.
        unit: the unit of the user; None takes the first one of the bundle.
        side: the chip size of the user; None takes that of the center crop of the bundle.

    Returns:
        The input.

    Raises:
        RequestError: the bundle takes chips of any size, and `side` is None; or the chips are smaller than the crop.
    """
    crop, contract = bundle.contract.crop, bundle.contract
    side = side or crop
    if side is None:
        message = "the bundle takes chips of any size, but a graph takes chips of one size"
        raise RequestError(message, "--whole", "give the size of the chips in pixels: --side")
    if crop is not None and side < crop:
        raise RequestError(
            f"chips of {side} pixels, but the bundle takes their middle {crop}", "--side", "leave it out"
        )
    return PixelInput(unit or contract.digital or next(iter(contract.units)), side)


def write_whole_export(
    bundle: Bundle, export_format: ExportFormat, output_dir: Path, labeled: LabeledChips | None, pixel_input: PixelInput
) -> dict[str, Any]:
    """Write the graph, run it on chips, and compare its outputs with those of `rsft predict`.

    Args:
        bundle: the bundle to export.
        export_format: the format.
        output_dir: folder to write or replace.
        labeled: chips of the training; None compares on noise.
        pixel_input: unit and size of the chips.

    Returns:
        The metadata of the export.

    Raises:
        RequestError: the format or a step of the bundle cannot hold the whole pipeline.
        DataError: the bundle does not accept the unit.
        WeightsError: the outputs differ too much.
    """
    if not isinstance(export_format, GraphFormat) or not export_format.holds_pipelines:
        message = f"{export_format.name} cannot hold the whole pipeline"
        raise RequestError(message, "--whole", "use --format onnx, or leave out --whole")
    pipeline = WholePipeline(bundle, pixel_input.unit, pixel_input.side).requires_grad_(False).eval()
    metadata = export_metadata(bundle, export_format, "fp32") | _pipeline_metadata(bundle, pipeline, pixel_input)
    pixels, source = _sample_pixels(bundle, labeled, pipeline.treatment.unit, pixel_input.side)
    example = torch.zeros(2, *pixels.shape[1:])
    with atomic_folder(output_dir) as temporary:
        export_format.write_graph(trace(pipeline, example), bundle.contract, temporary, metadata)
        outputs = export_format.run_pipeline(temporary / export_format.file_name, pixels)
        difference = _compare(outputs, predict_pixels(bundle, pixels, pixel_input.unit))
        if not max(difference) <= TOLERANCE:
            message = (
                f"the graph differs from rsft predict by {difference.largest:.2g} in a probability and by "
                f"{difference.distance:.2g} of the largest OOD distance; {TOLERANCE:g} is allowed"
            )
            raise WeightsError(message, source, "export without --whole; nothing was written")
        metadata["checked"] = {"on": source, "allowed": TOLERANCE, **difference._asdict()}
        write_export_metadata(temporary, metadata)
    return metadata


def predict_pixels(bundle: Bundle, pixels: NDArray[np.float32], unit: str) -> list[NDArray[np.float64]]:
    """Return what `rsft predict` says of chips.

    Args:
        bundle: the bundle.
        pixels: chips (N, B, H, W) with the bands that the bundle uses.
        unit: their unit.

    Returns:
        Probabilities (N, C) and, of a calibrated bundle, OOD distances (N,).
    """
    model, contract = with_tta(load_classifier(bundle, "cpu"), bundle.contract, bundle.recipe.evaluate)
    dtype = np.dtype(unit) if unit in ("uint8", "uint16") else np.dtype("float32")
    images = [contract.to_image(np.moveaxis(chip, 0, 2).astype(dtype), unit) for chip in pixels]
    outputs = compute_outputs(model.predict, torch.from_numpy(contract.normalize(images)))
    if bundle.calibrator is None:
        return [np.exp(log_softmax(outputs.logits))]
    estimate = bundle.calibrator.apply(*outputs)
    return [estimate.probabilities, estimate.ood]


def _compare(outputs: list[NDArray[np.float32]], reference: list[NDArray[np.float64]]) -> PipelineDifference:
    differences = [float(np.abs(a - b).max()) for a, b in zip(outputs, reference, strict=True)]
    if len(reference) == 1:
        return PipelineDifference(differences[0], 0.0)
    return PipelineDifference(differences[0], differences[1] / max(1.0, float(reference[1].max())))


def _pipeline_metadata(bundle: Bundle, pipeline: WholePipeline, pixel_input: PixelInput) -> dict[str, Any]:
    bands, side = list(bundle.contract.used_bands), pixel_input.side
    outputs: dict[str, list[Any]] = {PROBABILITIES: ["N", len(bundle.classes)]}
    if pipeline.has_distance:
        outputs[OOD_DISTANCE] = ["N"]
    return {
        "whole": {"unit": pipeline.treatment.unit, "bands": bands, "side": side},
        "input": {"name": PIXELS, "shape": ["N", len(bands), side, side], "dtype": "float32"},
        "outputs": outputs,
        "tta": bundle.recipe.evaluate.tta,
    }


def _sample_pixels(
    bundle: Bundle, labeled: LabeledChips | None, unit: str, side: int
) -> tuple[NDArray[np.float32], str]:
    """Return chips (n, B, H, W) for the comparison, and a text that names their source."""
    if labeled is not None:
        chips = list(_labeled_pixels(bundle, labeled, unit, side))
        if chips:
            return np.stack(chips), f"{len(chips)} chips of {labeled.store.root}"
    shape = (_NOISE_CHIPS, len(bundle.contract.used_bands), side, side)
    values = np.random.default_rng(0).rayleigh(_TYPICAL_VALUES.get(unit, 0.1), shape)
    if unit.endswith("db"):
        values = 10 * np.log10(values)
    if unit in ("uint8", "uint16"):
        values = np.clip(np.rint(values), 0, np.iinfo(unit).max)
    return values.astype(
        np.float32
    ), f"{_NOISE_CHIPS} chips of noise, as no chips of the training have this size and unit"


def _labeled_pixels(bundle: Bundle, labeled: LabeledChips, unit: str, side: int) -> list[NDArray[np.float32]]:
    table = labeled.store.split("val")
    table = labeled.store.split("train") if table.empty else table
    chips: list[NDArray[np.float32]] = []
    for path, chip_unit, bands in zip(table["path"], table["unit"], table["bands"], strict=True):
        if len(chips) == PARITY_CHIPS:
            break
        named_unit = bundle.contract.digital or chip_unit if chip_unit in ("uint8", "uint16") else chip_unit
        if named_unit != unit:
            continue
        pixels = center_crop(bundle.contract.select_bands(read_chip(labeled.store.root / path), bands.split(",")), side)
        if pixels.shape[:2] == (side, side):
            chips.append(np.moveaxis(pixels, 2, 0).astype(np.float32))
    return chips
