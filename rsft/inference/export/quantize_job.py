"""Export a bundle in int8. If this loses too much accuracy, leave more blocks in floating point."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsft.errors import RequestError
from rsft.inference.engines.graph import GraphFormat
from rsft.inference.export.metadata import write_export_metadata
from rsft.inference.export.parity import AccuracyChange, accuracy_changes, assert_accuracy, describe_losses
from rsft.inference.export.quantize import CALIBRATION_CHIPS, count_blocks, float_block_counts, float_nodes
from rsft.inference.export.reference_chips import LabeledChips, sample_evenly
from rsft.inference.export.traceable import build_network, trace_network
from rsft.models.averaging import SupportsPredict, with_tta
from rsft.models.bundle.bundle import Bundle
from rsft.models.factory import load_classifier
from rsft.models.outputs import ClassifierOutputs, collect_outputs
from rsft.types import Progress
from rsft.utils.atomic_files import atomic_folder


def write_int8_export(
    bundle: Bundle,
    export_format: GraphFormat,
    folder: Path,
    metadata: dict[str, Any],
    labeled: LabeledChips | None,
    max_loss: float,
    progress: Progress | None,
) -> dict[str, AccuracyChange]:
    """Write a bundle in int8, with the fewest blocks in floating point that keep the accuracy of every group.

    Args:
        bundle: the bundle to export.
        export_format: a graph format with int8.
        folder: folder of the export; an existing one is replaced.
        metadata: content of export.json; calibration, floating-point blocks and accuracies are added to it.
        labeled: the chips of the training.
        max_loss: percentage points that overall accuracy and the accuracy of each group may lose.
        progress: called while chips are read and computed.

    Returns:
        Accuracy before and after, by group.

    Raises:
        RequestError: chips or packages are missing.
        AccuracyLossError: every attempt loses too much accuracy.
        WeightsError: the converted graph lacks nodes that must stay in floating point.
    """
    if labeled is None:
        message = "int8 is calibrated and measured on the chips of the training, which were not found"
        raise RequestError(message, bundle.recipe.data.root, "give their folder: rsft export --data ROOT")
    contract, data_root = bundle.contract, labeled.store.root
    chips = sample_evenly(labeled.load_split("train", contract, progress), CALIBRATION_CHIPS).numpy()
    metadata |= {"calibrated": {"on": str(data_root), "chips": len(chips)}, "max_loss": max_loss, "refused": []}
    program = trace_network(build_network(bundle), contract)
    reference, labels = _validate(bundle, labeled, load_classifier(bundle, "cpu"), "float32", progress)
    depth = count_blocks(program)
    with atomic_folder(folder) as temporary:
        for first in float_block_counts(depth):
            metadata["float_blocks"] = {"first": first, "of": depth, "precision": export_format.int8_float_precision}
            export_format.quantize(program, contract, temporary, metadata, chips, float_nodes(program, first), progress)
            model = export_format.open_graph(temporary / export_format.file_name, "int8")
            outputs, _ = _validate(bundle, labeled, model, "int8", progress)
            table = accuracy_changes(reference, outputs, labels, bundle.group_indices)
            if not (losses := describe_losses(table, max_loss)):
                break
            metadata["refused"].append({"first": first, "lost": losses})
        subject = f"{export_format.name}, int8 with {describe_float_parts(metadata)}"
        assert_accuracy(table, max_loss, f"{subject}, on the validation chips of {data_root}")
        metadata["accuracy"] = {name: change._asdict() for name, change in table.items()}
        write_export_metadata(temporary, metadata)
    return table


def describe_float_parts(metadata: dict[str, Any]) -> str:
    """Return a text that lists the floating-point parts of an int8 export.

    Args:
        metadata: metadata of an int8 export.
    """
    blocks = metadata["float_blocks"]
    first = f"the first {blocks['first']} of {blocks['of']} blocks, " if blocks["first"] else ""
    return f"{first}the patch embedding, attention and the head in {blocks['precision']}"


def _validate(
    bundle: Bundle, labeled: LabeledChips, model: SupportsPredict, item: str, progress: Progress | None
) -> tuple[ClassifierOutputs, NDArray[np.int64]]:
    """Return outputs of all validation chips, with the test-time views of the evaluation, and the labels."""
    tta_model, contract = with_tta(model, bundle.contract, bundle.recipe.evaluate)
    chips = labeled.load_split("val", contract, progress)
    report = None if progress is None else lambda done: progress(done, len(chips), item)
    return collect_outputs(tta_model, chips.batches(32), report), chips.labels
