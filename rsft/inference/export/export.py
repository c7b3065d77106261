"""Export a bundle.

Delete the export if its outputs or its accuracy differ too much from those of PyTorch.

Outputs are compared one by one. Those of int8 are not: its accuracy is compared, for
each group of classes. If int8 loses too much, more blocks stay in floating point.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.fx import GraphModule, Node

from rsft.data.chips.store import ChipStore
from rsft.data.imagery.contract import Contract
from rsft.data.loading.batches import ChipImages
from rsft.errors import RequestError, RsftError
from rsft.inference.engines import traceable
from rsft.inference.engines.base import find_format
from rsft.inference.engines.export_metadata import (
    export_folder,
    export_metadata,
    write_export_metadata,
)
from rsft.inference.engines.graph import FloatNodes, GraphFormat
from rsft.inference.export.whole import write_whole_export
from rsft.metrics.accuracy import summarize_accuracy
from rsft.models.averaging import with_tta
from rsft.models.batch_outputs import collect_outputs
from rsft.models.bundle.bundle import Bundle
from rsft.models.classifier import SupportsPredict
from rsft.models.devices import copy_to_device
from rsft.models.loading import load_classifier
from rsft.models.outputs import ClassifierOutputs
from rsft.types import GROUPS, Indices, JsonObject, Progress
from rsft.utils.atomic_files import atomic_folder, check_is_free

MAX_LOSS = 0.5
"""Percentage points of accuracy that int8 may lose, overall and in each group."""

CALIBRATION_CHIPS = 256
"""Number of chips on which the ranges of activations are measured. With more chips, the
ranges hardly change."""

FLOAT_BLOCK_SHARES = (0, 1 / 6, 1 / 3)
"""Shares of the blocks that stay in floating point. They are tried in this order until
the loss of accuracy is allowed.

These are the first blocks of the network, because errors in their outputs reach all
later blocks."""

_NOISE_IMAGES = 8
_BLOCK = re.compile(r"\bblocks[./](\d+)\b")
_LINEAR = torch.ops.aten.linear.default
_ATTENTION = torch.ops.aten.scaled_dot_product_attention.default


class AccuracyChange(NamedTuple):
    """Accuracy of a group of classes by PyTorch in float32 and by an int8 export.

    Attributes:
        before: accuracy of PyTorch, 0-1.
        after: accuracy of the export, 0-1.
        chips: number of chips in the group.
        differ: number of chips whose predicted class changed.
    """

    before: float
    after: float
    chips: int
    differ: int

    @property
    def lost(self) -> float:
        """Lost accuracy in percentage points; negative for a gain."""
        # so that one chip of 200 is exactly 0.5
        return round(100 * (self.before - self.after), 9)


@dataclass(frozen=True)
class ExportResult:
    """A finished export.

    Attributes:
        folder: folder of the export.
        metadata: content of export.json, without "files".
        changes: accuracy before and after the export, by group; empty unless the export
            is int8.
    """

    folder: Path
    metadata: JsonObject
    changes: dict[str, AccuracyChange]

    @property
    def notes(self) -> list[str]:
        """Remarks for the user."""
        notes = []
        metadata = self.metadata
        subject = "logits differ from PyTorch's"
        whole = metadata.get("whole")
        if whole:
            subject = "probabilities differ from those of rsft predict"
            notes.append(
                f"the graph takes chips of {whole['side']} x {whole['side']} pixels in"
                f" {whole['unit']}, with the bands {', '.join(whole['bands'])}"
            )
        elif metadata["tta"] != "none":
            notes.append(f"test-time views: {metadata['tta']}; rsft predict makes them")
        if "checked" in metadata:
            largest = metadata["checked"]["largest"]
            source = metadata["checked"]["data"]
            notes.append(f"{subject} by {largest:.2g} at most, on {source}")
        if "calibration" in metadata:
            calibration = metadata["calibration"]
            source = f"{calibration['chips']} chips of {calibration['data']}"
            notes.append(f"calibrated on {source}; {describe_float_parts(metadata)}")
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
        output_dir: folder to write (default: exports/<format>-<precision> beside the
            bundle).
        data: chip store of the training (default: the recipe's).
        max_loss: percentage points of accuracy that int8 may lose.
        whole: write the whole pipeline, from the pixels of chips to probabilities and
            the OOD distance; some formats hold nothing else.
        unit: unit of these pixels (default: the first one of the bundle).
        side: side of these chips (default: that of the bundle's center crop).
        overwrite: replace an existing folder.
        progress: called while chips are read and computed.

    Returns:
        The folder, the metadata, and for int8 the changes of accuracy.

    Raises:
        RequestError: the format or precision is unknown, data or packages are missing,
            or the folder exists.
        WeightsError: the export differs from PyTorch.
        RsftError: int8 loses too much accuracy.
    """
    export_format = find_format(format_name)
    export_format.check_precision(precision)
    name = f"{format_name}-{precision}{'-whole' if whole else ''}"
    whole = whole or export_format.whole_only
    if not whole and (unit is not None or side is not None):
        raise RequestError(
            "--unit and --size only work with --whole",
            "--unit, --size",
            "give --whole as well",
        )
    if whole and precision != "fp32":
        raise RequestError(
            f"a whole pipeline is not written in {precision}",
            "--precision",
            "leave it out",
        )
    output_dir = output_dir or export_folder(bundle_dir, name)
    check_is_free(output_dir, overwrite)
    bundle = Bundle.load(bundle_dir)
    if whole:
        metadata = write_whole_export(bundle, export_format, output_dir, unit, side)
        return ExportResult(output_dir, metadata, {})
    store = find_training_store(bundle, data)
    metadata = export_metadata(bundle, export_format, precision)
    tolerance = export_format.precisions[precision]
    if tolerance.limit is None:
        assert isinstance(export_format, GraphFormat), (
            f"{export_format.name} cannot be quantized"
        )
        changes = _write_int8(
            bundle, export_format, output_dir, metadata, store, max_loss, progress
        )
        return ExportResult(output_dir, metadata, changes)
    chips, source = _sample_inputs(bundle.contract, store, progress)
    reference = traceable.compute_outputs(load_classifier(bundle, "cpu").predict, chips)
    with atomic_folder(output_dir) as temporary:
        outputs = export_format.write(bundle, temporary, metadata, chips)
        metadata["checked"] = traceable.check_export_outputs(
            outputs, reference, tolerance, "PyTorch", source
        )
        write_export_metadata(temporary, metadata)
    return ExportResult(output_dir, metadata, {})


def _sample_inputs(
    contract: Contract, store: ChipStore | None, progress: Progress | None
) -> tuple[Tensor, str]:
    """Return network inputs (N, P, S, S) for a comparison, and where they are from."""
    if store:
        chips = _sample_evenly(
            _load_split(store, "val", contract, progress), traceable.PARITY_CHIPS
        )
        return chips, f"{len(chips)} chips of {store.root}"
    shape = (_NOISE_IMAGES, contract.size, contract.size, len(contract.planes))
    noise = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    source = "images of noise, as the chips of the training were not found"
    return (
        torch.from_numpy(contract.normalize(list(noise))),
        f"{_NOISE_IMAGES} {source}",
    )


def _write_int8(
    bundle: Bundle,
    export_format: GraphFormat,
    folder: Path,
    metadata: JsonObject,
    store: ChipStore | None,
    max_loss: float,
    progress: Progress | None,
) -> dict[str, AccuracyChange]:
    """Write a bundle in int8, with as few blocks in floating point as possible.

    The accuracy of every group must be kept.

    Calibration, floating-point blocks and accuracies are added to `metadata`.

    Returns:
        Accuracy before and after, by group.
    """
    if not store:
        raise RequestError(
            "int8 is calibrated and measured on the chips of the training, which were"
            " not found",
            bundle.recipe.data.root,
            "give their folder: rsft export --data ROOT",
        )
    contract = bundle.contract
    chips = _sample_evenly(
        _load_split(store, "train", contract, progress), CALIBRATION_CHIPS
    ).numpy()
    metadata["calibration"] = {"data": str(store.root), "chips": len(chips)}
    metadata["max_loss"] = max_loss
    program = traceable.trace_network(traceable.build_network(bundle), contract)
    reference, labels = _validate(
        bundle, store, load_classifier(bundle, "cpu"), "float32", progress
    )
    depth = 1 + max((_block_of(node) for node in _nodes(program)), default=-1)
    with atomic_folder(folder) as temporary:
        for count in sorted({ceil(share * depth) for share in FLOAT_BLOCK_SHARES}):
            metadata["float_blocks"] = {
                "count": count,
                "depth": depth,
                "precision": export_format.int8_float_precision,
            }
            if progress:
                progress(0, len(chips), "calibrating")
            export_format.quantize(
                program, temporary, metadata, chips, float_nodes(program, count)
            )
            path = temporary / export_format.file_name
            model = export_format.open_graph(path, "int8")
            outputs, _ = _validate(bundle, store, model, "int8", progress)
            table = accuracy_changes(reference, outputs, labels, bundle.group_indices)
            loss = _describe_loss(table, max_loss)
            if not loss:
                break
        else:
            parts = f"{export_format.name}, int8 with {describe_float_parts(metadata)}"
            raise RsftError(
                f"int8 loses {loss}; {max_loss:g} are allowed",
                f"{parts}, on the validation chips of {store.root}",
                "export bf16 or fp32, or allow it: --max-loss; nothing was written",
            )
        metadata["accuracy"] = {name: row._asdict() for name, row in table.items()}
        write_export_metadata(temporary, metadata)
    return table


def _describe_loss(table: dict[str, AccuracyChange], max_loss: float) -> str:
    """Return the losses above the limit, by group; empty if no group has one."""
    return ", ".join(
        f"{change.lost:.2f} points {name}"
        for name, change in table.items()
        if change.lost > max_loss
    )


def _validate(
    bundle: Bundle,
    store: ChipStore,
    model: SupportsPredict,
    item: str,
    progress: Progress | None,
) -> tuple[ClassifierOutputs, Indices]:
    """Return outputs and labels of all validation chips, with test-time views."""
    tta_model, contract = with_tta(model, bundle.contract, bundle.recipe.evaluate)
    chips = _load_split(store, "val", contract, progress)
    outputs = collect_outputs(tta_model, chips.batches(32), progress, item)
    return outputs, chips.labels


def accuracy_changes(
    reference: ClassifierOutputs,
    outputs: ClassifierOutputs,
    labels: Indices,
    groups: dict[str, list[int]],
) -> dict[str, AccuracyChange]:
    """Compare the accuracy of all chips, and the mean recall of each group.

    Args:
        reference: outputs of PyTorch in float32 for N chips.
        outputs: outputs of the export for the same chips.
        labels: class numbers (N).
        groups: class numbers of head, medium and tail.

    Returns:
        Changes of "overall", and of each group that has chips.
    """
    classes = reference.logits.shape[1]
    old, new = reference.logits.argmax(1), outputs.logits.argmax(1)
    before = summarize_accuracy(old, labels, classes, groups, resamples=1)
    after = summarize_accuracy(new, labels, classes, groups, resamples=1)
    changes = {}
    for name in ("micro", *GROUPS):
        members = range(classes) if name == "micro" else groups.get(name, ())
        is_member = np.isin(labels, members)
        if is_member.any():
            changes["overall" if name == "micro" else name] = AccuracyChange(
                getattr(before, name).value,
                getattr(after, name).value,
                int(is_member.sum()),
                int((old != new)[is_member].sum()),
            )
    return changes


def describe_float_parts(metadata: JsonObject) -> str:
    """Return a text that lists the floating-point parts of an int8 export."""
    blocks = metadata["float_blocks"]
    text = f"the patch embedding, attention and the head in {blocks['precision']}"
    if blocks["count"]:
        return f"the first {blocks['count']} of {blocks['depth']} blocks, {text}"
    return text


def float_nodes(program: ExportedProgram, first: int) -> FloatNodes:
    """Return the nodes that stay in floating point.

    They are attention's products, the head, and the first blocks.

    Attention in int8 makes neither runtime faster, and a head has a thousandth of the
    arithmetic. With attention, head and patch embedding in int8, the root mean square
    error of the logits of a trained ViT-S/14 on RSSCN7 is 0.59; with them in floating
    point it is 0.08. Both quantizers leave the patch embedding in floating point as
    well.
    """
    names = set()
    products = set()
    for node in _nodes(program):
        is_kept = node.target is _ATTENTION or 0 <= _block_of(node) < first
        if node.target is _LINEAR:  # a head has features, not tokens
            is_kept |= cast(Node, node.args[0]).meta["val"].ndim == 2
        if is_kept:
            names.add(node.name)
            if node.target in (_LINEAR, _ATTENTION):
                products.add(node.name)
    return FloatNodes(frozenset(names), frozenset(products))


def _nodes(program: ExportedProgram) -> Iterator[Node]:
    """Iterate over the nodes of the graph and of its subgraphs.

    A head that switches off autocast is a subgraph.
    """
    for module in program.graph_module.modules():
        if isinstance(module, GraphModule):
            yield from module.graph.nodes


def _block_of(node: Node) -> int:
    """Return the number of the block that a node belongs to, or -1."""
    paths = [path for path, _ in (node.meta.get("nn_module_stack") or {}).values()]
    numbers = _BLOCK.findall(" ".join(paths))
    if numbers:
        return int(numbers[-1])
    return -1


def find_training_store(bundle: Bundle, data: Path | None) -> ChipStore | None:
    """Return the chip store `data`, or that of the recipe.

    It is None if the latter does not exist or has other classes.

    Raises:
        RequestError: `data` is not a chip store, or has other classes.
    """
    path = data or Path(bundle.recipe.data.root)
    try:
        store = ChipStore.open(path)
        if store.classes != bundle.classes:
            raise RequestError(
                "the data has other classes than the bundle",
                path,
                "give the chip store of its training with --data",
            )
    except RequestError:
        if data:
            raise
        return None
    return store


def _load_split(
    store: ChipStore, split: str, contract: Contract, progress: Progress | None
) -> ChipImages:
    """Read the chips of a split.

    If it is empty, read the other one of train and val.
    """
    splits = [name for name in (split, "val", "train") if not store.split(name).empty]
    if not splits:
        raise RequestError(
            "no training or validation chips",
            store.root,
            "give another chip store with --data",
        )
    return ChipImages(
        store.root, store.split(splits[0]), store.classes, contract, progress
    )


def _sample_evenly(chips: ChipImages, count: int) -> Tensor:
    """Return network inputs (n, P, S, S) of up to `count` chips, evenly spaced."""
    numbers = np.linspace(0, len(chips) - 1, min(count, len(chips)))
    return copy_to_device(chips.batch(numbers.astype(int))[0], "cpu")
