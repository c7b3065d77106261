"""Which engine a job takes: the one that is asked for, or by measuring the one that is done first."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from rsft.data.imagery.contract import Contract
from rsft.errors import RequestError
from rsft.inference.engines.engines import (
    CHUNK,
    ENGINES,
    PLAIN,
    Engine,
    Kind,
    Opened,
    compiler,
    open_engine,
    open_file,
    torch_engine,
)
from rsft.inference.engines.export_cache import Facts, measured, note_measured
from rsft.inference.export.metadata import versions
from rsft.inference.export.parity import difference
from rsft.inference.predict.pipeline import Batch, read_batch
from rsft.models.averaging import seen_contract
from rsft.models.bundle.bundle import Bundle
from rsft.models.factory import choose_device
from rsft.models.outputs import Outputs
from rsft.utils.optional_dependencies import installed
from rsft.utils.precision_benchmark import speed_up

LONG = 20.0
"""Seconds of work in PyTorch from which it pays to measure other engines."""

LONG_ENOUGH_TO_COMPILE = 300.0

_PACKAGES = {"torch": "torch", "onnx": "onnxruntime", "openvino": "openvino"}


class Chosen(NamedTuple):
    """The engine of a job.

    Attributes:
        run, contract: what computes, and how it takes chips.
        told: one line for the reader.
        facts: for the metadata of the output.
        callers: threads that may call it at once.
    """

    run: Engine
    contract: Contract
    told: str
    facts: dict[str, Any]
    callers: int = 1


def choose_engine(
    bundle: Bundle, asked: str, precision: str | None, device: str, todo: Sequence[Batch], before: str | None = None
) -> Chosen:
    """The engine that is asked for, or for "auto" the fastest one that says the same.

    Args:
        asked: auto, torch, onnx, openvino, or an export of the bundle.
        precision: fp32, bf16 or int8; None is fp32, or for auto what fits.
        todo: the job's chips; a few are read for the measurement.
        before: the engine that a job took before it was stopped, as `str(Kind)`; auto takes it again.

    Raises:
        RequestError, WeightsError: as `open_engine` and `open_file`.
    """
    if asked == "auto":
        return _auto(bundle, precision, device, todo, before)
    if asked not in ENGINES and Path(asked).exists():
        if precision is not None:
            raise RequestError("an export has its precision", "--precision", "leave it out")
        return _told(open_file(bundle, Path(asked)), asked, f"from {asked}")
    kind = Kind(asked, precision or "fp32", compiled=asked == "torch" and precision == "bf16")
    images = None if kind.engine == "torch" else _some(bundle, todo)
    return _told(open_engine(bundle, kind, device, images), asked)


def _auto(bundle: Bundle, precision: str | None, device: str, todo: Sequence[Batch], before: str | None) -> Chosen:
    if precision == "int8":
        what = "int8 is not exact, so auto does not choose it"
        raise RequestError(what, "--precision", "name the engine as well: --engine openvino --precision int8")
    plain, images = torch_engine(bundle, device), _some(bundle, todo)
    if images is None:
        return _told(plain, "auto")
    wanted, each = _timed(plain.run, images)
    total = each * sum(len(batch.chips) for batch in todo)
    if before is None and total < LONG and precision != "bf16":
        return _told(plain, "auto", f"about {total:.0f} s of work, too little to look for a faster engine")
    kinds, facts = _candidates(device, precision), measured(bundle, device)
    for kind in kinds:
        if before is None and str(kind) not in facts and (not kind.compiled or total > LONG_ENOUGH_TO_COMPILE):
            facts[str(kind)] = _measure(bundle, kind, device, plain, images)
            note_measured(bundle, device, facts)
    ordered = sorted(kinds, key=lambda kind: (str(kind) != before, _seconds(facts, kind, total)))
    usable = [kind for kind in ordered if str(kind) == before or _seconds(facts, kind, total) < float("inf")]
    return _first_that_fits(bundle, usable, device, plain, images, wanted, facts)


def _first_that_fits(
    bundle: Bundle,
    kinds: Sequence[Kind],
    device: str,
    plain: Opened,
    images: torch.Tensor,
    wanted: Outputs,
    facts: Facts,
) -> Chosen:
    for kind in kinds:
        if kind == PLAIN:
            return _told(plain, "auto", "the fastest of those that say the same here", facts)
        opened = open_engine(bundle, kind, device, images)
        found = difference(opened.run(images.numpy()), wanted, kind.precision)
        if found.fits:
            speed = facts.get(str(kind), {}).get("speed", 1.0)
            return _told(opened, "auto", f"{speed:.1f} x torch fp32; logits differ by {found.largest:.2g}", facts)
    return _told(plain, "auto", "no other engine says the same on these chips", facts)


def _candidates(device: str, precision: str | None) -> list[Kind]:
    """The engines that may be chosen here, PyTorch in float32 among them."""
    kinds = [PLAIN, Kind("torch", "bf16")]
    if choose_device(device).type == "cpu":
        kinds += [Kind("torch", "bf16", compiled=True)] if compiler() else []
        kinds += [Kind("onnx")] if installed("onnx") else []
        kinds += [Kind("openvino"), Kind("openvino", "bf16")] if installed("openvino") else []
    return [kind for kind in kinds if precision in (None, kind.precision)]


def _measure(bundle: Bundle, kind: Kind, device: str, plain: Opened, images: torch.Tensor) -> dict[str, Any]:
    """Speed against PyTorch in float32, seconds to open, largest difference; or why it cannot be used."""
    if kind == PLAIN:
        return {"speed": 1.0, "open": 0.0, "difference": 0.0, "fits": True}
    try:
        open_engine(bundle, kind, device, images)  # its export is made
        start = time.perf_counter()
        opened = open_engine(bundle, kind, device, images)
        seconds = time.perf_counter() - start
        if opened.kind != kind:
            return {"failed": opened.note}
        found = difference(opened.run(images.numpy()), plain.run(images.numpy()), kind.precision)
        speed = speed_up(lambda: plain.run(images.numpy()), lambda: opened.run(images.numpy()), 3, 20.0)
    except Exception as error:  # a runtime that fails is none to choose
        return {"failed": (str(error).strip() or type(error).__name__).splitlines()[0][:200]}
    return {"speed": round(speed, 2), "open": round(seconds, 2), "difference": found.largest, "fits": found.fits}


def _seconds(facts: Facts, kind: Kind, plain: float) -> float:
    """Until a job is done that takes PyTorch `plain` seconds."""
    known = facts.get(str(kind), {})
    return known["open"] + plain / known["speed"] if known.get("fits") else float("inf")


def _some(bundle: Bundle, todo: Sequence[Batch]) -> torch.Tensor | None:
    """The first chips of the job that can be read: (n, P, S, S); None where none can."""
    contract = seen_contract(bundle.contract, bundle.recipe.evaluate)
    for batch in todo:
        ready = read_batch(batch._replace(chips=batch.chips[:CHUNK]), contract)
        if len(ready.numbers):
            return torch.from_numpy(ready.inputs)
    return None


def _timed(run: Engine, images: torch.Tensor) -> tuple[Outputs, float]:
    """What it answers, and seconds a chip."""
    run(images[:2].numpy())  # the first call pays for its set-up
    start = time.perf_counter()
    outputs = run(images.numpy())
    return outputs, (time.perf_counter() - start) / len(images)


def _told(opened: Opened, asked: str, why: str = "", facts: Facts | None = None) -> Chosen:
    kind = opened.kind
    words = "; ".join(filter(None, (f"engine: {kind}", why, opened.note)))
    about = {
        "kind": str(kind),
        "asked": asked,
        "why": "; ".join(filter(None, (why, opened.note))),
        "version": versions((_PACKAGES[kind.engine],)),
        "threads": torch.get_num_threads(),
        **({"measured": facts} if facts else {}),
    }
    return Chosen(opened.run, opened.contract, words, about, opened.callers)
