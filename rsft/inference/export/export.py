"""The job of `rsft export`: a bundle for another runtime, kept only if it says what the bundle says."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rsft.errors import RequestError
from rsft.inference.export.metadata import describe, write_about
from rsft.inference.export.parity import Change, difference, must_fit
from rsft.inference.export.quantize_job import floating, write_int8
from rsft.inference.export.reference_chips import CHECKED, Labelled, find_labelled, noise, some
from rsft.inference.export.runtimes import FILES, open_graph, write_graph
from rsft.inference.export.traceable import Half, network_of, trace
from rsft.inference.export.weight_files import write_peft, write_timm
from rsft.models.averaging import Answering
from rsft.models.bundle.bundle import Bundle, find_bundle
from rsft.models.factory import load_classifier
from rsft.models.outputs import Outputs
from rsft.types import Progress
from rsft.utils.atomic_files import replacing_folder

KINDS = {
    "onnx": ("fp32", "int8"),
    "openvino": ("fp32", "bf16", "int8"),
    "timm": ("fp32",),
    "peft": ("fp32",),
    "torch-export": ("fp32", "bf16"),
}
"""Format -> the precisions that it is written in."""

MAX_LOSS = 0.5
"""Points of accuracy that int8 may lose, overall and in each group."""

_WHY = {
    ("onnx", "bf16"): "ONNX Runtime has no bfloat16 on a processor",
    ("torch-export", "int8"): "rsft quantises for ONNX Runtime and OpenVINO alone",
}


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        folder: of the export.
        about: what export.json holds.
        changes: accuracy before and after, by group; of int8 alone.
    """

    folder: Path
    about: dict[str, Any]
    changes: dict[str, Change]

    @property
    def notes(self) -> list[str]:
        """What the reader must know, in sentences."""
        notes = []
        if checked := self.about.get("checked"):
            notes.append(f"logits differ from PyTorch's by {checked['largest']:.2g} at most, on {checked['on']}")
        if calibrated := self.about.get("calibrated"):
            notes.append(f"calibrated on {calibrated['chips']} chips of {calibrated['on']}; {floating(self.about)}")
        for step in self.about.get("refused", ()):
            notes.append(f"with {step['first'] or 'none'} of the blocks in floating point {step['lost']} was lost")
        if self.about["tta"] != "none":
            notes.append(f"test-time crops: {self.about['tta']}; rsft predict makes them around it")
        timm = self.about.get("timm", {"why": ""})
        if why := timm.get("why"):
            notes.append(f"timm.create_model does not make this network: {why}")
        return notes


def export(
    folder: Path,
    kind: str,
    precision: str = "fp32",
    out: Path | None = None,
    *,
    data: Path | None = None,
    max_loss: float = MAX_LOSS,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Exported:
    """Write the bundle in `folder` as `kind`, check it on real chips, and keep it only if it fits.

    Args:
        out: folder to make; exports/<kind>-<precision> beside the bundle if None.
        data: prepared root of the chips; the recipe's if None.
        max_loss: points of accuracy that int8 may lose.

    Raises:
        RequestError: a format or precision that is not written, missing data or packages, or a folder that exists.
        WeightsError: the export differs from PyTorch.
        TooLossy: int8 loses too much.
    """
    check_kind(kind, precision)
    out = out or find_bundle(folder).parent / "exports" / f"{kind}-{precision}"
    if out.exists() and not overwrite:
        raise RequestError("there is something already", out, "give --overwrite to replace it, or another --out")
    bundle = Bundle.load(folder)
    return write_export(bundle, kind, precision, out, find_labelled(bundle, data), max_loss=max_loss, progress=progress)


def check_kind(kind: str, precision: str) -> None:
    """See that a format is written in a precision.

    Raises:
        RequestError: it is not.
    """
    if kind not in KINDS:
        raise RequestError(f"there is no format {kind}", "--format", f"choose from {', '.join(KINDS)}")
    if precision not in KINDS[kind]:
        why = _WHY.get((kind, precision), f"{kind} is written in {' or '.join(KINDS[kind])}")
        raise RequestError(f"no {precision} of {kind}: {why}", "--precision", f"choose {' or '.join(KINDS[kind])}")


def write_export(
    bundle: Bundle,
    kind: str,
    precision: str,
    out: Path,
    labelled: Labelled | None,
    *,
    images: Tensor | None = None,
    max_loss: float = MAX_LOSS,
    progress: Progress | None = None,
) -> Exported:
    """As `export`, of a bundle that is open.

    Args:
        images: (N, P, S, S) to check on; else labelled chips, else noise.

    Raises:
        As `export`.
    """
    about = describe(bundle, kind, precision)
    about["head"] = bundle.recipe.head.model_dump()
    if precision == "int8":
        return Exported(out, about, write_int8(bundle, kind, out, about, labelled, max_loss, progress))
    chips, told = _to_check(bundle, labelled, images, progress)
    reference = load_classifier(bundle, "cpu")
    wanted = _answers(reference, chips)
    del reference  # of large networks two at once are enough
    with replacing_folder(out) as temporary:
        if kind == "timm":
            found = write_timm(bundle, temporary, about, chips, wanted)
        elif kind == "peft":
            found = write_peft(bundle, temporary, chips)
        else:
            network = network_of(bundle)
            half = kind == "torch-export" and precision == "bf16"
            write_graph(kind, trace(Half(network) if half else network, bundle.contract), bundle, about, temporary)
            found = _answers(open_graph(kind, temporary / FILES[kind], precision), chips)
        measured = difference(found, wanted, precision)
        must_fit(measured, f"{kind}, {precision}, on {told}")
        about["checked"] = {"on": told, **measured._asdict()}
        write_about(temporary, about)
    return Exported(out, about, {})


def _to_check(
    bundle: Bundle, labelled: Labelled | None, images: Tensor | None, progress: Progress | None
) -> tuple[Tensor, str]:
    if images is not None:
        return images[:CHECKED], f"{min(len(images), CHECKED)} chips of the job"
    if labelled is None:
        chips = noise(bundle.contract)
        return chips, f"{len(chips)} images of noise, as the chips of the training are not here"
    chips = some(labelled.chips("val", bundle.contract, progress), CHECKED)
    return chips, f"{len(chips)} chips of {labelled.store.root}"


@torch.inference_mode()
def _answers(model: Answering, images: Tensor) -> Outputs:
    return Outputs(*(part.float().numpy() for part in model.answer(images)))
