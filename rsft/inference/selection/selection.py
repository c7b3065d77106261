"""Select the engine of a job."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from rsft.errors import RequestError
from rsft.inference.engines.base import ENGINES, REFERENCE, find_engine
from rsft.inference.selection.exported import LoadedEngine, load_exported_engine
from rsft.models.bundle.bundle import Bundle

if TYPE_CHECKING:
    from rsft.inference.selection.fastest import ReadSample


def select_engine(
    bundle: Bundle,
    name: str,
    precision: str | None,
    device: str,
    read_sample: ReadSample,
    chips: int,
    previous: str | None = None,
) -> LoadedEngine:
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
        return load_exported_engine(bundle, Path(name))._replace(requested=name, reason=f"from {name}")
    if find_spec("torch") is None:
        message = f"PyTorch is not installed, which --engine {name} needs"
        raise RequestError(message, "--engine", "give the path of an export (`rsft export`), or install all of rsft")
    from rsft.inference.selection.fastest import load_engine, read_images, select_fastest  # PyTorch

    if name == "auto":
        return select_fastest(bundle, precision, device, read_sample, chips, previous)
    spec = find_engine(name).spec(precision or "fp32")
    images = None if name == REFERENCE.engine else read_images(bundle, read_sample)
    return load_engine(bundle, spec, device, images)._replace(requested=name)
