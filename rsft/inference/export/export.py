"""Export a bundle. Delete the export if its outputs or its accuracy differ too much from those of PyTorch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rsft.data.chips.store import ChipStore
from rsft.errors import RequestError, WeightsError
from rsft.inference.engines.base import ExportFormat, find_format
from rsft.inference.engines.graph import GraphFormat
from rsft.inference.export.metadata import export_metadata, write_export_metadata
from rsft.inference.export.parity import (
    PARITY_CHIPS,
    AccuracyChange,
    compare_outputs,
    compute_outputs,
    find_training_store,
    load_split,
    sample_evenly,
)
from rsft.inference.export.quantize import describe_float_parts, write_int8_export
from rsft.inference.export.whole import write_whole_export
from rsft.models.bundle.bundle import Bundle, find_bundle
from rsft.models.classifier import load_classifier
from rsft.types import Progress
from rsft.utils.atomic_files import atomic_folder

MAX_LOSS = 0.5
"""Percentage points of accuracy that int8 may lose, overall and in each group."""

_NOISE_IMAGES = 8


@dataclass(frozen=True)
class ExportResult:
    """A finished export.

    Attributes:
        folder: folder of the export.
        metadata: content of export.json, without "files".
        changes: accuracy before and after the export, by group; empty unless the export is int8.
    """

    folder: Path
    metadata: dict[str, Any]
    changes: dict[str, AccuracyChange]

    @property
    def notes(self) -> list[str]:
        """Remarks for the user."""
        notes = []
        whole = self.metadata.get("whole")
        if whole:
            size, bands = f"{whole['side']} x {whole['side']} pixels", ", ".join(whole["bands"])
            notes.append(f"the graph takes chips of {size} in {whole['unit']}, with the bands {bands}")
        if checked := self.metadata.get("checked"):
            subject = "probabilities differ from those of rsft predict" if whole else "logits differ from PyTorch's"
            notes.append(f"{subject} by {checked['largest']:.2g} at most, on {checked['data']}")
        if calibration := self.metadata.get("calibration"):
            source = f"{calibration['chips']} chips of {calibration['data']}"
            notes.append(f"calibrated on {source}; {describe_float_parts(self.metadata)}")
        for attempt in self.metadata.get("rejected", ()):
            blocks = f"the first {attempt['float_blocks']}" if attempt["float_blocks"] else "none"
            notes.append(f"with {blocks} of the blocks in floating point, int8 loses {attempt['accuracy_loss']}")
        if self.metadata["tta"] != "none" and not whole:
            notes.append(f"test-time views: {self.metadata['tta']}; rsft predict makes them")
        if reason := self.metadata.get("timm", {}).get("reason"):
            notes.append(f"timm.create_model does not make this network: {reason}")
        if change := self.metadata.get("peft", {}).get("before_loading"):
            notes.append(f"before PEFT loads the adapter, {change}; otherwise it ignores q, k and v without a message")
        return notes


def export_bundle(
    bundle_dir: Path,
    format_name: str,
    precision: str = "fp32",
    output_dir: Path | None = None,
    *,
    data: Path | None = None,
    max_loss: float = MAX_LOSS,
    whole: bool = False,
    unit: str | None = None,
    side: int | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> ExportResult:
    """Export a bundle and check the export on chips. Delete it if the check fails.

    Args:
        bundle_dir: folder of the bundle or of its run.
        format_name: name of an export format.
        precision: a precision that the format supports.
        output_dir: folder to write (default: exports/<format>-<precision> beside the bundle).
        data: chip store of the training (default: the recipe's).
        max_loss: percentage points of accuracy that int8 may lose.
        whole: write the whole pipeline, from the pixels of chips to probabilities and the OOD distance.
        unit: unit of these pixels (default: the first one of the bundle).
        side: side of these chips (default: that of the bundle's center crop).
        overwrite: replace an existing folder.
        progress: called while chips are read and computed.

    Returns:
        The folder, the metadata, and for int8 the changes of accuracy.

    Raises:
        RequestError: the format or precision is unknown, data or packages are missing, or the folder exists.
        WeightsError: the export differs from PyTorch.
        AccuracyLossError: int8 loses too much accuracy.
    """
    export_format = find_format(format_name)
    export_format.check_precision(precision)
    if not whole and (unit is not None or side is not None):
        raise RequestError("--unit and --side only work with --whole", "--unit, --side", "give --whole as well")
    if whole and precision != "fp32":
        raise RequestError(f"a whole pipeline is not written in {precision}", "--precision", "leave it out")
    name = f"{format_name}-{precision}{'-whole' if whole else ''}"
    output_dir = output_dir or find_bundle(bundle_dir).parent / "exports" / name
    if output_dir.exists() and not overwrite:
        raise RequestError("the folder exists already", output_dir, "give --overwrite to replace it, or another --out")
    bundle = Bundle.load(bundle_dir)
    store = find_training_store(bundle, data)
    if whole:
        return ExportResult(output_dir, write_whole_export(bundle, export_format, output_dir, store, unit, side), {})
    return write_export(bundle, export_format, precision, output_dir, store, max_loss=max_loss, progress=progress)


def write_export(
    bundle: Bundle,
    export_format: ExportFormat,
    precision: str,
    output_dir: Path,
    store: ChipStore | None,
    *,
    images: Tensor | None = None,
    max_loss: float = MAX_LOSS,
    progress: Progress | None = None,
) -> ExportResult:
    """Export an open bundle; see `export_bundle`.

    Args:
        bundle: the bundle to export.
        export_format: a format that supports `precision`.
        precision: fp32, bf16 or int8.
        output_dir: folder to write or replace.
        store: chip store of the training; int8 needs it.
        images: network inputs (N, P, S, S) for the check (default: validation chips, or noise without a store).
        max_loss: percentage points of accuracy that int8 may lose.
        progress: called while chips are read and computed.

    Returns:
        The folder, the metadata, and for int8 the changes of accuracy.

    Raises:
        RequestError: chips or packages are missing, or the format cannot store the bundle.
        WeightsError: the export differs from PyTorch.
        AccuracyLossError: int8 loses too much accuracy.
    """
    metadata = export_metadata(bundle, export_format, precision)
    tolerance = export_format.precisions[precision]
    if tolerance.limit is None:
        assert isinstance(export_format, GraphFormat), f"{export_format.name} cannot be quantized"
        changes = write_int8_export(bundle, export_format, output_dir, metadata, store, max_loss, progress)
        return ExportResult(output_dir, metadata, changes)
    chips, source = _parity_chips(bundle, store, images, progress)
    classifier = load_classifier(bundle, "cpu")
    reference = compute_outputs(classifier.predict, chips)
    del classifier  # free its memory before the export builds more networks
    with atomic_folder(output_dir) as temporary:
        outputs = export_format.write(bundle, temporary, metadata, chips, reference)
        difference = compare_outputs(outputs, reference, tolerance)
        if not difference.fits:
            message = (
                f"the export differs from PyTorch by {difference.largest:.2g} in a logit "
                f"({difference.allowed:.2g} is allowed) and by {difference.features:.2g} of the largest feature "
                f"({difference.share:.2g})"
            )
            where = f"{export_format.name}, {precision}, on {source}"
            raise WeightsError(message, where, "export another precision or format; nothing was written")
        metadata["checked"] = {"data": source, **difference._asdict()}
        write_export_metadata(temporary, metadata)
    return ExportResult(output_dir, metadata, {})


def _parity_chips(
    bundle: Bundle, store: ChipStore | None, images: Tensor | None, progress: Progress | None
) -> tuple[Tensor, str]:
    """Return network inputs for the check (n, P, S, S), and a text that names their source."""
    contract = bundle.contract
    if images is not None:
        return images[:PARITY_CHIPS], f"{min(len(images), PARITY_CHIPS)} chips of the job"
    if store is not None:
        chips = sample_evenly(load_split(store, "val", contract, progress), PARITY_CHIPS)
        return chips, f"{len(chips)} chips of {store.root}"
    shape = (_NOISE_IMAGES, contract.size, contract.size, len(contract.planes))
    noise = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    source = f"{_NOISE_IMAGES} images of noise, as the chips of the training were not found"
    return torch.from_numpy(contract.normalize(list(noise))), source
