"""An export in int8: quantised, measured on the validation chips, and with more in floating point where that loses."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.export import ExportedProgram

from rsft.errors import RequestError
from rsft.inference.export.metadata import write_about
from rsft.inference.export.parity import Change, changes, losses, must_keep
from rsft.inference.export.quantize import CALIBRATION, depth_of, quantise_onnx, quantise_openvino, spared, steps
from rsft.inference.export.reference_chips import Labelled, some
from rsft.inference.export.runtimes import BESIDE_INT8, FILES, open_graph, to_openvino, write_graph
from rsft.inference.export.traceable import network_of, trace
from rsft.models.averaging import Answering, with_views
from rsft.models.bundle.bundle import Bundle
from rsft.models.factory import load_classifier
from rsft.models.outputs import Outputs, outputs_of
from rsft.types import Progress
from rsft.utils.atomic_files import replacing_folder


def write_int8(
    bundle: Bundle,
    kind: str,
    out: Path,
    about: dict[str, Any],
    labelled: Labelled | None,
    max_loss: float,
    progress: Progress | None,
) -> dict[str, Change]:
    """Write onnx or openvino in int8, with as few blocks in floating point as keep the accuracy of every group.

    Args:
        about: of the export; how it was calibrated, what stays in floating point and what that is worth is added.
        max_loss: points that overall and each group may lose.

    Returns:
        Accuracy before and after, by group.

    Raises:
        RequestError: missing chips or packages.
        TooLossy: more is lost at every step.
    """
    if labelled is None:
        what = "int8 is calibrated and measured on the chips of the training, which are not here"
        raise RequestError(what, bundle.recipe.data.root, "say where they are: rsft export --data ROOT")
    chips = some(labelled.chips("train", bundle.contract, progress), CALIBRATION).numpy()
    about |= {"calibrated": {"on": str(labelled.store.root), "chips": len(chips)}, "max_loss": max_loss, "refused": []}
    program = trace(network_of(bundle), bundle.contract)
    wanted, labels = _validated(bundle, labelled, load_classifier(bundle, "cpu"), "float32", progress)
    depth = depth_of(program)
    with replacing_folder(out) as temporary:
        for first in steps(depth):
            about["float_blocks"] = {"first": first, "of": depth, "precision": BESIDE_INT8[kind]}
            _quantise(kind, program, bundle, about, chips, spared(program, first), temporary, progress)
            found, _ = _validated(bundle, labelled, open_graph(kind, temporary / FILES[kind], "int8"), "int8", progress)
            table = changes(wanted, found, labels, bundle.group_indices)
            if not (lost := losses(table, max_loss)):
                break
            about["refused"].append({"first": first, "lost": lost})
        parts = f"{kind}, int8 with {floating(about)}"
        must_keep(table, max_loss, f"{parts}, on the validation chips of {labelled.store.root}")
        about["accuracy"] = {name: change._asdict() for name, change in table.items()}
        write_about(temporary, about)
    return table


def floating(about: dict[str, Any]) -> str:
    """What an int8 export has in floating point, in words."""
    blocks = about["float_blocks"]
    first = f"the first {blocks['first']} of {blocks['of']} blocks, " if blocks["first"] else ""
    return f"{first}the embedding of patches, attention and the head in {blocks['precision']}"


def _quantise(
    kind: str,
    program: ExportedProgram,
    bundle: Bundle,
    about: dict[str, Any],
    chips: NDArray[np.float32],
    spare: Collection[str],
    folder: Path,
    progress: Progress | None,
) -> None:
    path = folder / FILES[kind]
    if kind == "onnx":
        write_graph(kind, program, bundle, about, folder)
        quantise_onnx(path, chips, about, spare, progress)
    else:
        quantise_openvino(to_openvino(program, bundle), path, chips, about, spare, progress)


def _validated(
    bundle: Bundle, labelled: Labelled, model: Answering, what: str, progress: Progress | None
) -> tuple[Outputs, NDArray[np.int64]]:
    """Answers to all validation chips, looked at as the evaluation does, and their labels."""
    seeing, contract = with_views(model, bundle.contract, bundle.recipe.evaluate)
    chips = labelled.chips("val", contract, progress)
    told = None if progress is None else lambda done: progress(done, len(chips), what)
    return outputs_of(seeing, chips.batches(32), told), chips.labels
