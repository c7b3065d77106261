"""Export a bundle in int8. If this loses too much accuracy, leave more blocks in floating point."""

import re
from collections.abc import Collection, Iterable, Iterator
from math import ceil
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch.export import ExportedProgram
from torch.fx import GraphModule, Node

from rsft.data.chips.store import ChipStore
from rsft.errors import RequestError, WeightsError
from rsft.inference.engines.graph import FloatNodes, GraphFormat
from rsft.inference.export.metadata import write_export_metadata
from rsft.inference.export.parity import (
    AccuracyChange,
    AccuracyLossError,
    accuracy_changes,
    describe_losses,
    load_split,
    sample_evenly,
)
from rsft.inference.export.traceable import build_network, trace_network
from rsft.models.bundle.bundle import Bundle
from rsft.models.classifier import SupportsPredict, collect_outputs, load_classifier, with_tta
from rsft.models.outputs import ClassifierOutputs
from rsft.types import Progress
from rsft.utils.atomic_files import atomic_folder

CALIBRATION_CHIPS = 256
"""Number of chips on which the ranges of activations are measured. With more chips, the ranges hardly change."""

FLOAT_BLOCK_SHARES = (0, 1 / 6, 1 / 3)
"""Shares of the blocks that stay in floating point. They are tried in this order until the loss of accuracy is allowed.

These are the first blocks of the network, because errors in their outputs reach all later blocks."""

CALIBRATING = "calibrating"
"""Label of the progress bar."""

_BLOCK = re.compile(r"\bblocks[./](\d+)\b")
_LINEAR, _ATTENTION = torch.ops.aten.linear.default, torch.ops.aten.scaled_dot_product_attention.default


def float_nodes(program: ExportedProgram, first: int) -> FloatNodes:
    """Return the nodes that stay in floating point: attention's products, the head, and the first blocks.

    Attention in int8 makes neither runtime faster, and a head has a thousandth of the arithmetic. With attention, head
    and patch embedding in int8, the root mean square error of the logits of a trained ViT-S/14 on RSSCN7 is 0.59;
    with them in floating point it is 0.08. Both quantizers leave the patch embedding in floating point as well.

    Args:
        program: a traced network.
        first: number of first blocks that stay in floating point.
    """
    names, products = set(), set()
    for node in _nodes(program):
        is_head = node.target is _LINEAR and cast(Node, node.args[0]).meta["val"].ndim == 2  # features, not tokens
        if node.target is _ATTENTION or 0 <= _block_of(node) < first or is_head:
            names.add(node.name)
            if node.target in (_LINEAR, _ATTENTION):
                products.add(node.name)
    return FloatNodes(frozenset(names), frozenset(products))


def check_float_nodes(expected: Collection[str], names: Iterable[str], title: str) -> None:
    """Check that a runtime's graph has all nodes that must stay in floating point.

    Quantizers ignore names of nodes that are not in their graph. Without this check, attention and the head would
    silently become int8 if a new version of a runtime renames nodes.

    Args:
        expected: names of nodes.
        names: names of the nodes in the runtime's graph.
        title: name of the runtime for the message.

    Raises:
        WeightsError: a name is missing.
    """
    if missing := sorted(set(expected) - set(names)):
        message = (
            f"{len(missing)} of {len(expected)} nodes that must stay in floating point are not in the graph of "
            f"{title}: {', '.join(missing[:3])}"
        )
        hint = "export fp32 or bf16, or install the package versions that rsft was tested with"
        raise WeightsError(message, "int8", hint)


def _nodes(program: ExportedProgram) -> Iterator[Node]:
    """Iterate over the nodes of the graph and of its subgraphs; a head that switches off autocast is a subgraph."""
    for module in program.graph_module.modules():
        if isinstance(module, GraphModule):
            yield from module.graph.nodes


def _block_of(node: Node) -> int:
    """Return the number of the block that a node belongs to, or -1."""
    paths = [path for path, _ in (node.meta.get("nn_module_stack") or {}).values()]
    numbers = _BLOCK.findall(" ".join(paths))
    return int(numbers[-1]) if numbers else -1


def write_int8_export(
    bundle: Bundle,
    export_format: GraphFormat,
    folder: Path,
    metadata: dict[str, Any],
    store: ChipStore | None,
    max_loss: float,
    progress: Progress | None,
) -> dict[str, AccuracyChange]:
    """Write a bundle in int8, with the fewest blocks in floating point that keep the accuracy of every group.

    Args:
        bundle: the bundle to export.
        export_format: a graph format with int8.
        folder: folder of the export; an existing one is replaced.
        metadata: content of export.json; calibration, floating-point blocks and accuracies are added to it.
        store: the chip store of the training.
        max_loss: percentage points that overall accuracy and the accuracy of each group may lose.
        progress: called while chips are read and computed.

    Returns:
        Accuracy before and after, by group.

    Raises:
        RequestError: chips or packages are missing.
        AccuracyLossError: every attempt loses too much accuracy.
        WeightsError: the converted graph lacks nodes that must stay in floating point.
    """
    if store is None:
        message = "int8 is calibrated and measured on the chips of the training, which were not found"
        raise RequestError(message, bundle.recipe.data.root, "give their folder: rsft export --data ROOT")
    contract = bundle.contract
    chips = sample_evenly(load_split(store, "train", contract, progress), CALIBRATION_CHIPS).numpy()
    metadata |= {"calibration": {"data": str(store.root), "chips": len(chips)}, "max_loss": max_loss, "rejected": []}
    program = trace_network(build_network(bundle), contract)
    reference, labels = _validate(bundle, store, load_classifier(bundle, "cpu"), "float32", progress)
    depth = 1 + max((_block_of(node) for node in _nodes(program)), default=-1)
    with atomic_folder(folder) as temporary:
        for count in sorted({ceil(share * depth) for share in FLOAT_BLOCK_SHARES}):
            metadata["float_blocks"] = {"count": count, "depth": depth, "precision": export_format.int8_float_precision}
            export_format.quantize(program, temporary, metadata, chips, float_nodes(program, count), progress)
            model = export_format.open_graph(temporary / export_format.file_name, "int8")
            outputs, _ = _validate(bundle, store, model, "int8", progress)
            table = accuracy_changes(reference, outputs, labels, bundle.group_indices)
            if not (losses := describe_losses(table, max_loss)):
                break
            metadata["rejected"].append({"float_blocks": count, "accuracy_loss": losses})
        if losses:
            parts = f"{export_format.name}, int8 with {describe_float_parts(metadata)}"
            raise AccuracyLossError(
                f"int8 loses {losses}; {max_loss:g} are allowed",
                f"{parts}, on the validation chips of {store.root}",
                "export bf16 or fp32, or allow it: --max-loss; nothing was written",
                table,
            )
        metadata["accuracy"] = {name: change._asdict() for name, change in table.items()}
        write_export_metadata(temporary, metadata)
    return table


def describe_float_parts(metadata: dict[str, Any]) -> str:
    """Return a text that lists the floating-point parts of an int8 export, given its metadata."""
    blocks = metadata["float_blocks"]
    first = f"the first {blocks['count']} of {blocks['depth']} blocks, " if blocks["count"] else ""
    return f"{first}the patch embedding, attention and the head in {blocks['precision']}"


def _validate(
    bundle: Bundle, store: ChipStore, model: SupportsPredict, item: str, progress: Progress | None
) -> tuple[ClassifierOutputs, NDArray[np.int64]]:
    """Return outputs of all validation chips, with the test-time views of the evaluation, and the labels."""
    tta_model, contract = with_tta(model, bundle.contract, bundle.recipe.evaluate)
    chips = load_split(store, "val", contract, progress)
    report = None if progress is None else lambda done: progress(done, len(chips), item)
    return collect_outputs(tta_model, chips.batches(32), report), chips.labels
