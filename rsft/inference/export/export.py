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
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.export import ExportedProgram
from torch.fx import GraphModule, Node

from rsft.data.chips.store import ChipStore
from rsft.data.imagery.contract import Contract
from rsft.data.loading.batches import ChipImages
from rsft.errors import RequestError, RsftError, WeightsError
from rsft.inference.engines import traceable
from rsft.inference.engines.base import ExportFormat, find_format
from rsft.inference.engines.export_metadata import (
    export_metadata,
    write_export_metadata,
)
from rsft.inference.engines.graph import Calibration, FloatNodes, GraphFormat
from rsft.inference.export.whole import write_whole_export
from rsft.metrics.accuracy import summarize_accuracy
from rsft.models.bundle.bundle import Bundle, find_bundle
from rsft.models.classifier import (
    SupportsPredict,
    collect_outputs,
    load_classifier,
    with_tta,
)
from rsft.models.outputs import ClassifierOutputs
from rsft.types import GROUPS, Progress
from rsft.utils.atomic_files import atomic_folder

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


class AccuracyLossError(RsftError):
    """An int8 export loses more accuracy than allowed.

    `table` has the accuracy before and after, by group.
    """

    def __init__(
        self, message: str, where: object, hint: str, table: dict[str, AccuracyChange]
    ) -> None:
        super().__init__(message, where, hint)
        self.table = table


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
    metadata: dict[str, Any]
    changes: dict[str, AccuracyChange]

    @property
    def notes(self) -> list[str]:
        """Remarks for the user."""
        notes = []
        whole = self.metadata.get("whole")
        if whole:
            size = f"{whole['side']} x {whole['side']} pixels"
            bands = ", ".join(whole["bands"])
            notes.append(
                f"the graph takes chips of {size} in {whole['unit']}, with the bands"
                f" {bands}"
            )
        checked = self.metadata.get("checked")
        if checked:
            if whole:
                subject = "probabilities differ from those of rsft predict"
            else:
                subject = "logits differ from PyTorch's"
            notes.append(
                f"{subject} by {checked['largest']:.2g} at most, on {checked['data']}"
            )
        calibration = self.metadata.get("calibration")
        if calibration:
            source = f"{calibration['chips']} chips of {calibration['data']}"
            notes.append(
                f"calibrated on {source}; {describe_float_parts(self.metadata)}"
            )
        for attempt in self.metadata.get("rejected", ()):
            if attempt["float_blocks"]:
                blocks = f"the first {attempt['float_blocks']}"
            else:
                blocks = "none"
            notes.append(
                f"with {blocks} of the blocks in floating point, int8 loses"
                f" {attempt['accuracy_loss']}"
            )
        if self.metadata["tta"] != "none" and not whole:
            notes.append(
                f"test-time views: {self.metadata['tta']}; rsft predict makes them"
            )
        change = self.metadata.get("peft", {}).get("before_loading")
        if change:
            notes.append(
                f"before PEFT loads the adapter, {change}; otherwise it ignores q, k"
                " and v without a message"
            )
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
        AccuracyLossError: int8 loses too much accuracy.
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
    output_dir = output_dir or find_bundle(bundle_dir).parent / "exports" / name
    if output_dir.exists() and not overwrite:
        raise RequestError(
            "the folder exists already",
            output_dir,
            "give --overwrite to replace it, or another --out",
        )
    bundle = Bundle.load(bundle_dir)
    store = find_training_store(bundle, data)
    if whole:
        return ExportResult(
            output_dir,
            write_whole_export(bundle, export_format, output_dir, store, unit, side),
            {},
        )
    return write_export(
        bundle,
        export_format,
        precision,
        output_dir,
        store,
        max_loss=max_loss,
        progress=progress,
    )


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
        images: network inputs (N, P, S, S) for the check (default: validation chips, or
            noise without a store).
        max_loss: percentage points of accuracy that int8 may lose.
        progress: called while chips are read and computed.

    Raises:
        RequestError: chips or packages are missing, or the format cannot store the
            bundle.
        WeightsError: the export differs from PyTorch.
        AccuracyLossError: int8 loses too much accuracy.
    """
    metadata = export_metadata(bundle, export_format, precision)
    tolerance = export_format.precisions[precision]
    contract = bundle.contract
    if tolerance.limit is None:
        assert isinstance(export_format, GraphFormat), (
            f"{export_format.name} cannot be quantized"
        )
        changes = _write_int8(
            bundle, export_format, output_dir, metadata, store, max_loss, progress
        )
        return ExportResult(output_dir, metadata, changes)
    if images is not None:
        chips = images[: traceable.PARITY_CHIPS]
        source = f"{len(chips)} chips of the job"
    elif store is not None:
        chips = _sample_evenly(
            _load_split(store, "val", contract, progress), traceable.PARITY_CHIPS
        )
        source = f"{len(chips)} chips of {store.root}"
    else:
        shape = (_NOISE_IMAGES, contract.size, contract.size, len(contract.planes))
        noise = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        chips = torch.from_numpy(contract.normalize(list(noise)))
        source = (
            f"{_NOISE_IMAGES} images of noise, as the chips of the training were not"
            " found"
        )
    classifier = load_classifier(bundle, "cpu")
    reference = traceable.compute_outputs(classifier.predict, chips)
    del classifier  # free its memory before the export builds more networks
    with atomic_folder(output_dir) as temporary:
        outputs = export_format.write(bundle, temporary, metadata, chips, reference)
        difference = traceable.compare_outputs(outputs, reference, tolerance)
        if not difference.fits:
            raise WeightsError(
                (
                    f"the export differs from PyTorch by {difference.largest:.2g} in a"
                    f" logit ({difference.allowed:.2g} is allowed) and by"
                    f" {difference.features:.2g} of the largest feature"
                    f" ({difference.share:.2g})"
                ),
                f"{export_format.name}, {precision}, on {source}",
                "export another precision or format; nothing was written",
            )
        metadata["checked"] = {"data": source, **difference._asdict()}
        write_export_metadata(temporary, metadata)
    return ExportResult(output_dir, metadata, {})


def _write_int8(
    bundle: Bundle,
    export_format: GraphFormat,
    folder: Path,
    metadata: dict[str, Any],
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
    if store is None:
        raise RequestError(
            (
                "int8 is calibrated and measured on the chips of the training, which"
                " were not found"
            ),
            bundle.recipe.data.root,
            "give their folder: rsft export --data ROOT",
        )
    contract = bundle.contract
    chips = _sample_evenly(
        _load_split(store, "train", contract, progress), CALIBRATION_CHIPS
    ).numpy()
    metadata |= {
        "calibration": {"data": str(store.root), "chips": len(chips)},
        "max_loss": max_loss,
        "rejected": [],
    }
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
            calibration = Calibration(chips, float_nodes(program, count), progress)
            export_format.quantize(program, temporary, metadata, calibration)
            model = export_format.open_graph(
                temporary / export_format.file_name, "int8"
            )
            outputs, _ = _validate(bundle, store, model, "int8", progress)
            table = accuracy_changes(reference, outputs, labels, bundle.group_indices)
            lost = {
                name: change.lost
                for name, change in table.items()
                if change.lost > max_loss
            }
            losses = ", ".join(
                f"{points:.2f} points {name}" for name, points in lost.items()
            )
            if not losses:
                break
            metadata["rejected"].append(
                {"float_blocks": count, "accuracy_loss": losses}
            )
        if losses:
            parts = f"{export_format.name}, int8 with {describe_float_parts(metadata)}"
            raise AccuracyLossError(
                f"int8 loses {losses}; {max_loss:g} are allowed",
                f"{parts}, on the validation chips of {store.root}",
                "export bf16 or fp32, or allow it: --max-loss; nothing was written",
                table,
            )
        metadata["accuracy"] = {
            name: change._asdict() for name, change in table.items()
        }
        write_export_metadata(temporary, metadata)
    return table


def _validate(
    bundle: Bundle,
    store: ChipStore,
    model: SupportsPredict,
    item: str,
    progress: Progress | None,
) -> tuple[ClassifierOutputs, NDArray[np.int64]]:
    """Return outputs and labels of all validation chips, with test-time views."""
    tta_model, contract = with_tta(model, bundle.contract, bundle.recipe.evaluate)
    chips = _load_split(store, "val", contract, progress)
    outputs = collect_outputs(tta_model, chips.batches(32), progress, item)
    return outputs, chips.labels


def accuracy_changes(
    reference: ClassifierOutputs,
    outputs: ClassifierOutputs,
    labels: NDArray[np.int64],
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
    predicted = [model.logits.argmax(1) for model in (reference, outputs)]
    before, after = (
        summarize_accuracy(predictions, labels, classes, groups, resamples=1)
        for predictions in predicted
    )
    masks = {
        "overall": np.ones(len(labels), bool),
        **{name: np.isin(labels, groups.get(name, ())) for name in GROUPS},
    }
    differs = predicted[0] != predicted[1]
    changes = {}
    for name, mask in masks.items():
        old = getattr(before, "micro" if name == "overall" else name)
        new = getattr(after, "micro" if name == "overall" else name)
        if old is not None and new is not None:
            changes[name] = AccuracyChange(
                old.value, new.value, int(mask.sum()), int(differs[mask].sum())
            )
    return changes


def describe_float_parts(metadata: dict[str, Any]) -> str:
    """Return a text that lists the floating-point parts of an int8 export."""
    blocks = metadata["float_blocks"]
    if blocks["count"]:
        first = f"the first {blocks['count']} of {blocks['depth']} blocks, "
    else:
        first = ""
    return (
        f"{first}the patch embedding, attention and the head in {blocks['precision']}"
    )


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
        # features, not tokens
        is_head = (
            node.target is _LINEAR and cast(Node, node.args[0]).meta["val"].ndim == 2
        )
        if node.target is _ATTENTION or 0 <= _block_of(node) < first or is_head:
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
    try:
        store = ChipStore.open(data or Path(bundle.recipe.data.root))
    except RequestError:
        if data is not None:
            raise
        return None
    if store.classes == bundle.classes:
        return store
    if data is None:
        return None
    raise RequestError(
        "the data has other classes than the bundle",
        data,
        "give the chip store of its training with --data",
    )


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
    return chips.batch(
        np.linspace(0, len(chips) - 1, min(count, len(chips))).astype(int)
    )[0]
