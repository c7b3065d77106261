"""Export the pipeline of a bundle as one graph, and compare it with `predict`.

The pipeline takes the pixels of a chip, and returns probabilities and the distance from
the training.
"""

from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from rsft.data.imagery.bands import compute_planes
from rsft.data.imagery.contract import Contract
from rsft.data.imagery.input_transform import standardize_chips
from rsft.data.imagery.units import (
    DIGITAL_UNITS,
    UNIT_DTYPES,
    convert_unit,
    parse_unit,
)
from rsft.errors import RequestError
from rsft.inference.engines.base import ExportFormat, Tolerance
from rsft.inference.engines.export_metadata import (
    export_metadata,
    write_export_metadata,
)
from rsft.inference.engines.graph import GraphFormat
from rsft.inference.engines.traceable import (
    TraceableNetwork,
    build_network,
    check_export_outputs,
    compute_outputs,
    trace,
)
from rsft.models.averaging import with_tta
from rsft.models.bundle.bundle import Bundle
from rsft.models.loading import load_classifier
from rsft.models.outputs import (
    VIEWS,
    ClassifierOutputs,
    average_outputs,
    tta_contract,
)
from rsft.models.uncertainty.distances import nearest_distance, whiten_references
from rsft.models.uncertainty.temperature import log_softmax
from rsft.types import Floats, Floats32, JsonObject, Reals
from rsft.utils.atomic_files import atomic_folder

PIXELS = "pixels"
PROBABILITIES = "probabilities"
OOD_DISTANCE = "ood_distance"
"""Names of the input and the outputs of a whole pipeline."""

_WEIGHT_SCALE = np.float32(2048)  # OpenCV's bilinear weights of bytes are whole numbers


class ChipTreatment(nn.Module):
    """What a contract does with the pixels of chips of one size and one unit.

    It computes the same bytes as `Contract.to_image`, and then the network's input.

    Raises:
        RequestError: the stretch depends on the whole chip.
        DataError: the contract does not accept the unit.
    """

    def __init__(self, contract: Contract, unit: str, side: int) -> None:
        super().__init__()
        dtype = UNIT_DTYPES[parse_unit(unit)][0]
        self.unit, self.target_unit = contract.check_header(
            str(dtype), len(contract.used_bands), unit
        )
        stretches = contract.units[self.target_unit]
        channels = list(zip(contract.planes, stretches, strict=True))
        self.channels = list(dict.fromkeys(channels))
        if any(stretch.high is None for stretch in stretches):
            raise RequestError(
                "the stretch takes the maximum of each chip (data.stretch=chip-max),"
                " which no graph computes",
                "data.stretch",
                "train with measured limits; rsft export without --whole needs none",
            )
        self.bands = contract.used_bands
        self.crop = contract.crop or side
        self.side = side
        self.resize = ByteResize(
            min(self.crop, side), contract.size, len(self.channels)
        )
        self.indices = [self.channels.index(channel) for channel in channels]
        self.register_buffer("values", torch.from_numpy(contract.byte_values()))
        self.is_standard = contract.chip_standard

    def forward(self, pixels: Tensor) -> Tensor:
        """Return network inputs (N, P, S, S), float32, of chips (N, B, H, W).

        The bands are `used_bands` of the contract.
        """
        start = max(0, (self.side - self.crop) // 2)
        rows = slice(start, start + self.crop)
        chips: Any = pixels[:, :, rows, rows].permute(0, 2, 3, 1)
        values = convert_unit(chips, self.unit, self.target_unit)
        names, stretches = zip(*self.channels, strict=True)
        planes = compute_planes(values, self.bands, names)
        pairs = zip(stretches, planes, strict=True)
        levels = [stretch.to_levels(plane) for stretch, plane in pairs]
        resized = self.resize(torch.stack(levels, 1)).long()
        tables = zip(cast(Tensor, self.values), self.indices, strict=True)
        inputs = torch.stack([table[resized[:, index]] for table, index in tables], 1)
        return standardize_chips(inputs) if self.is_standard else inputs


class ByteResize(nn.Module):
    """OpenCV's resizing of bytes from `side` to `size` pixels.

    It is area averaging if the image shrinks, else bilinear.

    The rounding is that of OpenCV, which depends on the number of channels.
    """

    def __init__(self, side: int, size: int, channels: int) -> None:
        super().__init__()
        self.side = side
        self.size = size
        self.rounds_up = side == 2 * size and channels in (1, 3, 4)
        # the share of each of `side` pixels in each of `size` pixels; 1 if pixels are
        # not divided
        if side > size:
            scale = side / size
            starts = np.arange(size)[:, None] * scale
            pixels = np.arange(side)
            ends = np.minimum(pixels + 1, starts + scale)
            weights = ends - np.maximum(pixels, starts)
            weights[weights < 1e-3] = 0  # as in OpenCV
            if side % size:
                weights /= scale
            self.register_buffer("weights", torch.from_numpy(weights).float())
        else:
            # each position lies between two pixels; the share is that of the second one
            centers = (np.arange(size) + 0.5) * (side / size) - 0.5
            positions = centers.astype(np.float32)
            start = np.floor(positions).astype(np.int64)
            shares = positions - start
            column_shares = np.where((start < 0) | (start == side - 1), 0, shares)
            first = torch.from_numpy(np.clip(start, 0, side - 1))
            second = torch.from_numpy(np.clip(start + 1, 0, side - 1))
            self.register_buffer("first", first)
            self.register_buffer("second", second)
            self.register_buffer("row_weights", _whole_weights(shares))
            self.register_buffer("column_weights", _whole_weights(column_shares))

    def forward(self, images: Tensor) -> Tensor:
        """Return images (N, P, size, size), whole numbers from 0 to 255, resized."""
        if self.side == self.size:
            return images
        if self.side > self.size:
            weights = cast(Tensor, self.weights)
            sums = weights @ (images @ weights.T)
            if self.side % self.size:
                return torch.round(sums).clip(0, 255)
            if self.rounds_up:  # weights of 0 and 1: the sums are exact
                return torch.floor((sums + 2) / 4)
            factor = np.float32(self.side // self.size)
            return torch.round(sums * float(1 / (factor * factor)))
        first = cast(Tensor, self.first)
        second = cast(Tensor, self.second)
        near, far = cast(Tensor, self.column_weights).unbind()
        exact = images.double()
        sums = exact[..., first] * near + exact[..., second] * far
        columns = torch.floor(sums / 16)
        near, far = cast(Tensor, self.row_weights)[..., None].unbind()
        rows = torch.floor(columns[:, :, first] * near / 65536)
        rows += torch.floor(columns[:, :, second] * far / 65536)
        return torch.floor((rows + 2) / 4).clip(0, 255).float()


def _whole_weights(shares: Reals) -> Tensor:
    """Return the weights of the two pixels as OpenCV's whole numbers (2, size)."""
    pair = np.stack([1 - shares, shares]).astype(np.float32)
    return torch.from_numpy(np.rint(pair * _WEIGHT_SCALE)).double()


class WholePipeline(nn.Module):
    """A bundle as one network, from the pixels of chips of one size.

    It contains chip treatment, network, test-time views and calibration.
    """

    def __init__(self, bundle: Bundle, unit: str, side: int) -> None:
        super().__init__()
        self.treatment = ChipTreatment(
            tta_contract(bundle.contract, bundle.recipe.evaluate), unit, side
        )
        self.network: TraceableNetwork = build_network(bundle)
        self.views = bundle.recipe.evaluate.tta
        self.size = bundle.contract.size
        calibrator = bundle.calibrator
        self.temperature = 1.0
        self.has_distance = calibrator is not None
        if calibrator:
            self.temperature = calibrator.temperature
            self.limit = calibrator.ood_limit()
            self.register_buffer(
                "white_references",
                torch.from_numpy(
                    whiten_references(calibrator.references(), calibrator.whitening)
                ),
            )
            self.register_buffer(
                "whitening", torch.from_numpy(calibrator.whitening).double()
            )

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Return probabilities (N, C) and OOD distances (N,) of chips (N, B, H, W).

        Only a calibrated bundle has distances.
        """
        images = self.treatment(pixels)
        if self.views == "none":
            logits, features = self.network(images)
        else:
            views = VIEWS[self.views](images, self.size)
            # one copy of the network in the graph
            outputs = self.network(torch.cat(views))
            logits, features = average_outputs(
                *(x.reshape(len(views), -1, x.shape[1]) for x in outputs)
            )
        probabilities = log_softmax(logits, self.temperature).exp().float()
        if not self.has_distance:
            return (probabilities,)
        white = features.double() @ cast(Tensor, self.whitening)
        distances = nearest_distance(white, cast(Tensor, self.white_references))
        return probabilities, (distances / self.limit).float()


TOLERANCE = Tolerance(1e-4)
"""Largest accepted difference of a probability, and of an OOD distance (relative to the
largest one above 1)."""

# 0.1 for calibrated units
_TYPICAL_VALUES = {
    "uint8": 100.0,
    "uint16": 1000.0,
    "amplitude": 100.0,
    "sentinel1_dn": 100.0,
    "intensity": 1e4,
}
_NOISE_CHIPS = 8


def write_whole_export(
    bundle: Bundle,
    export_format: ExportFormat,
    output_dir: Path,
    unit: str | None,
    side: int | None,
) -> JsonObject:
    """Write the graph, and compare its outputs with those of `rsft predict`.

    Args:
        bundle: the bundle to export.
        export_format: must hold whole pipelines.
        output_dir: folder to write or replace.
        unit: unit of the pixels; None takes the first one of the bundle.
        side: side of the chips in pixels; None takes that of the center crop of the
            bundle.

    Returns:
        The metadata of the export.

    Raises:
        RequestError: the format or a step of the bundle cannot hold the whole pipeline;
            the bundle takes chips of any size, and `side` is None; or the chips are
            smaller than the crop.
        DataError: the bundle does not accept the unit.
        WeightsError: the outputs differ too much.
    """
    contract = bundle.contract
    side = side or contract.crop
    unit = unit or contract.digital or next(iter(contract.units))
    if side is None:
        raise RequestError(
            "the bundle takes chips of any size, but a graph takes chips of one size",
            "--whole",
            "give the size of the chips in pixels: --size",
        )
    if contract.crop is not None and side < contract.crop:
        raise RequestError(
            f"chips of {side} pixels, but the bundle takes their middle"
            f" {contract.crop}",
            "--size",
            "leave it out",
        )
    if not isinstance(export_format, GraphFormat) or not export_format.holds_pipelines:
        raise RequestError(
            f"{export_format.name} cannot hold the whole pipeline",
            "--whole",
            "use --format onnx or mlflow, or leave out --whole",
        )
    pipeline = WholePipeline(bundle, unit, side).requires_grad_(False).eval()
    bands = list(contract.used_bands)
    outputs = {PROBABILITIES: ["N", len(bundle.classes)]}
    if bundle.calibrator:
        outputs[OOD_DISTANCE] = ["N"]
    shape = (len(bands), side, side)
    metadata = export_metadata(bundle, export_format, "fp32") | {
        "whole": {"unit": pipeline.treatment.unit, "bands": bands, "side": side},
        "input": {"name": PIXELS, "shape": ["N", *shape], "dtype": "float32"},
        "outputs": outputs,
        "tta": bundle.recipe.evaluate.tta,
    }
    pixels = _make_noise(pipeline.treatment.unit, (_NOISE_CHIPS, *shape))
    program = trace(pipeline, torch.zeros(2, *shape))
    with atomic_folder(output_dir) as temporary:
        export_format.write_graph(program, temporary, metadata)
        path = temporary / export_format.file_name
        computed = export_format.run_pipeline(path, pixels)
        predicted = _predict_pixels(bundle, pixels, unit)
        expected = [x.astype(np.float32) for x in predicted]
        # without distances, the probabilities are compared twice
        metadata["checked"] = check_export_outputs(
            ClassifierOutputs(computed[0], computed[-1]),
            ClassifierOutputs(expected[0], expected[-1]),
            TOLERANCE,
            "rsft predict",
            f"{_NOISE_CHIPS} chips of noise",
        )
        write_export_metadata(temporary, metadata)
    return metadata


def _predict_pixels(bundle: Bundle, pixels: Floats32, unit: str) -> list[Floats]:
    """Return probabilities (N, C) and OOD distances (N,) as `rsft predict` does.

    Chips are (N, B, H, W). Not every bundle has distances.
    """
    model, contract = with_tta(
        load_classifier(bundle, "cpu"), bundle.contract, bundle.recipe.evaluate
    )
    dtype = unit if unit in DIGITAL_UNITS else "float32"
    chips = np.moveaxis(pixels, 1, 3).astype(dtype)
    images = [contract.to_image(chip, unit) for chip in chips]
    outputs = compute_outputs(
        model.predict, torch.from_numpy(contract.normalize(images))
    )
    if not bundle.calibrator:
        return [np.exp(log_softmax(outputs.logits))]
    estimate = bundle.calibrator.apply(*outputs)
    return [estimate.probabilities, estimate.ood]


def _make_noise(unit: str, shape: tuple[int, ...]) -> Floats32:
    """Return chips of noise whose values are usual in a unit."""
    values = np.random.default_rng(0).rayleigh(_TYPICAL_VALUES.get(unit, 0.1), shape)
    if unit.endswith("db"):
        values = 10 * np.log10(values)
    if unit in DIGITAL_UNITS:
        values = np.clip(np.rint(values), 0, np.iinfo(unit).max)
    return values.astype(np.float32)
