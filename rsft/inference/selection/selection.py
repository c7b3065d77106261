"""Select the engine of a job. An exported graph is run without PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rsft.data.imagery.contract import Contract
from rsft.errors import RequestError
from rsft.inference.engines.base import ENGINES, InferenceFn, find_engine
from rsft.inference.engines.threads import engine_threads
from rsft.inference.export.metadata import installed_versions
from rsft.inference.selection.exported import LoadedEngine, load_exported_engine
from rsft.models.bundle.bundle import Bundle

ReadSample = Callable[[Contract], NDArray[np.float32] | None]
"""A function that reads the first chips of a job as network inputs (n, P, S, S); None if no chip can be read."""


class SelectedEngine(NamedTuple):
    """The engine of a job.

    Attributes:
        infer: computes logits and features of network inputs.
        contract: turns chips into these inputs.
        summary: one line for the user.
        metadata: entry "engine" of the metadata of the output.
        concurrency: number of threads that may call `infer` at the same time.
    """

    infer: InferenceFn
    contract: Contract
    summary: str
    metadata: dict[str, Any]
    concurrency: int = 1


def select_engine(
    bundle: Bundle,
    name: str,
    precision: str | None,
    device: str,
    read_sample: ReadSample,
    chips: int,
    previous: str | None = None,
) -> SelectedEngine:
    """Return the requested engine; for "auto", the fastest engine whose outputs match PyTorch float32 within tolerance.

    Args:
        bundle: the bundle to load.
        name: auto, an engine, or the path of an export of the bundle.
        precision: fp32, bf16 or int8. None is fp32; for "auto" it allows fp32 and bf16.
        device: auto, cpu or cuda.
        read_sample: reads chips for measurements and for the check of a new export.
        chips: number of chips of the job.
        previous: engine of the interrupted job as `str(EngineSpec)`; "auto" prefers it. None for a new job.

    Returns:
        The engine, ready to classify.

    Raises:
        RequestError: the engine, the precision or the export cannot be used.
        WeightsError: the local backbone is not the bundle's, or an export is altered or differs from PyTorch.
    """
    if name != "auto" and name not in ENGINES and Path(name).exists():
        if precision is not None:
            raise RequestError("the precision of an export is fixed", "--precision", "leave it out")
        return describe_engine(load_exported_engine(bundle, Path(name)), name, f"from {name}")
    if find_spec("torch") is None:
        message = f"PyTorch is not installed, which --engine {name} needs"
        raise RequestError(message, "--engine", "give the path of an export (`rsft export`), or install all of rsft")
    from rsft.inference.selection.fastest import load_requested, select_fastest  # PyTorch

    if name == "auto":
        return select_fastest(bundle, precision, device, read_sample, chips, previous)
    return load_requested(bundle, name, precision, device, read_sample)


def describe_engine(
    loaded: LoadedEngine, requested: str, reason: str = "", benchmarks: dict[str, dict[str, Any]] | None = None
) -> SelectedEngine:
    """Describe a loaded engine in a line for the user and in metadata for the output.

    Args:
        loaded: the engine.
        requested: value of `--engine`.
        reason: why it was selected, or "".
        benchmarks: measurements of all engines, if they were made.

    Returns:
        The engine with its description.
    """
    spec = loaded.spec
    metadata = {
        "kind": str(spec),
        "asked": requested,
        "why": "; ".join(filter(None, (reason, loaded.note))),
        "version": installed_versions(find_engine(spec.engine).packages),
        "threads": engine_threads(),
        **({"measured": benchmarks} if benchmarks else {}),
    }
    summary = "; ".join(filter(None, (f"engine: {spec}", reason, loaded.note)))
    return SelectedEngine(loaded.infer, loaded.contract, summary, metadata, loaded.concurrency)
