"""Select the engine that finishes a job first according to measurements, among those that match PyTorch."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch

from rsft.errors import RequestError
from rsft.inference.engines.base import REFERENCE, EngineSpec, InferenceFn, all_engines, find_engine
from rsft.inference.export.parity import OutputDifference, compare_outputs
from rsft.inference.selection.export_cache import Benchmarks, benchmark_path, read_benchmarks, write_benchmarks
from rsft.inference.selection.exported import LoadedEngine
from rsft.inference.selection.loading import load_engine, load_reference_engine
from rsft.inference.selection.selection import ReadSample, SelectedEngine, describe_engine
from rsft.models.bundle.bundle import Bundle
from rsft.models.factory import choose_device
from rsft.models.outputs import ClassifierOutputs
from rsft.models.views import tta_contract
from rsft.utils.precision_benchmark import measure_speedup

MIN_SECONDS_TO_MEASURE = 20.0
"""Other engines are only measured for jobs that take PyTorch at least this many seconds."""

MIN_SECONDS_TO_COMPILE = 300.0
"""Compilation is only tried for jobs that take PyTorch more than this many seconds."""


def select_fastest(
    bundle: Bundle, precision: str | None, device: str, read_sample: ReadSample, chips: int, previous: str | None
) -> SelectedEngine:
    """Return the fastest engine whose outputs match PyTorch float32 within tolerance; see `select_engine`.

    Args:
        bundle: the bundle to load.
        precision: fp32 or bf16; None allows both.
        device: auto, cpu or cuda.
        read_sample: reads chips for measurements and for the check of a new export.
        chips: number of chips of the job.
        previous: engine of the interrupted job; None for a new job.

    Returns:
        The engine, ready to classify.

    Raises:
        RequestError: the precision is int8.
        WeightsError: the local backbone is not the bundle's.
    """
    if precision == "int8":
        message = "int8 outputs differ from float32, so auto does not select int8"
        names = " or ".join(engine.name for engine in all_engines() if precision in engine.precisions)
        raise RequestError(message, "--precision", f"name the engine as well: --engine {names}")
    reference, images = load_reference_engine(bundle, device), _read_images(bundle, read_sample)
    if images is None:
        return describe_engine(reference, "auto")
    outputs, seconds_per_chip = _time_inference(reference.infer, images)
    duration = seconds_per_chip * chips
    if previous is None and duration < MIN_SECONDS_TO_MEASURE and precision != "bf16":
        reason = f"about {duration:.0f} s of work, too little to look for a faster engine"
        return describe_engine(reference, "auto", reason)
    specs = _candidates(device, precision)
    path = benchmark_path(bundle, device, all_engines())
    benchmarks = read_benchmarks(path)
    for spec in specs:
        is_new = previous is None and str(spec) not in benchmarks
        if is_new and (not spec.compiled or duration > MIN_SECONDS_TO_COMPILE):
            benchmarks[str(spec)] = _measure(bundle, spec, device, reference, images)
            write_benchmarks(path, benchmarks)
    ordered = sorted(specs, key=lambda spec: (str(spec) != previous, _predicted_seconds(benchmarks, spec, duration)))
    usable = [
        spec
        for spec in ordered
        if str(spec) == previous or _predicted_seconds(benchmarks, spec, duration) < float("inf")
    ]
    return _load_first_match(bundle, usable, device, reference, images, outputs, benchmarks)


def load_requested(
    bundle: Bundle, name: str, precision: str | None, device: str, read_sample: ReadSample
) -> SelectedEngine:
    """Return the engine with a given name; see `select_engine`.

    Args:
        bundle: the bundle to load.
        name: name of the engine.
        precision: fp32, bf16 or int8; None is fp32.
        device: auto, cpu or cuda.
        read_sample: reads chips for the check of a new export.

    Returns:
        The engine, ready to classify.

    Raises:
        RequestError: the engine or the precision cannot be used.
        WeightsError: the local backbone is not the bundle's, or a new export differs from PyTorch.
    """
    spec = find_engine(name).spec(precision or "fp32")
    images = None if name == REFERENCE.engine else _read_images(bundle, read_sample)
    return describe_engine(load_engine(bundle, spec, device, images), name)


def _load_first_match(
    bundle: Bundle,
    specs: Sequence[EngineSpec],
    device: str,
    reference: LoadedEngine,
    images: torch.Tensor,
    outputs: ClassifierOutputs,
    benchmarks: Benchmarks,
) -> SelectedEngine:
    """Return the first engine whose outputs match those of the reference on chips of this job."""
    for spec in specs:
        if spec == REFERENCE:
            return describe_engine(reference, "auto", "the fastest engine on these chips", benchmarks)
        loaded = load_engine(bundle, spec, device, images)
        difference = _compare(spec, loaded.infer(images.numpy()), outputs)
        if difference.fits:
            speed = benchmarks.get(str(spec), {}).get("speed", 1.0)
            reason = f"{speed:.1f} x torch fp32; logits differ by {difference.largest:.2g}"
            return describe_engine(loaded, "auto", reason, benchmarks)
    return describe_engine(reference, "auto", "no other engine matches it on these chips", benchmarks)


def _candidates(device: str, precision: str | None) -> list[EngineSpec]:
    """Return the engines that "auto" may select, beginning with PyTorch."""
    device_type = choose_device(device).type
    specs = [spec for engine in all_engines() for spec in engine.candidates(device_type)]
    specs.sort(key=lambda spec: spec.engine != REFERENCE.engine)
    return [spec for spec in specs if precision in (None, spec.precision)]


def _measure(
    bundle: Bundle, spec: EngineSpec, device: str, reference: LoadedEngine, images: torch.Tensor
) -> dict[str, Any]:
    """Return relative speed, seconds to load and difference of outputs; or why the engine cannot be used."""
    if spec == REFERENCE:
        return {"speed": 1.0, "open": 0.0, "difference": 0.0, "fits": True}
    try:
        load_engine(bundle, spec, device, images)  # writes the export if needed, so that only loading is timed below
        start = time.perf_counter()
        loaded = load_engine(bundle, spec, device, images)
        seconds = time.perf_counter() - start
        if loaded.spec != spec:
            return {"failed": loaded.note}
        difference = _compare(spec, loaded.infer(images.numpy()), reference.infer(images.numpy()))
        speed = measure_speedup(lambda: reference.infer(images.numpy()), lambda: loaded.infer(images.numpy()), 3, 20.0)
    except Exception as error:  # an engine that fails cannot be selected
        return {"failed": (str(error).strip() or type(error).__name__).splitlines()[0][:200]}
    return {
        "speed": round(speed, 2),
        "open": round(seconds, 2),
        "difference": difference.largest,
        "fits": difference.fits,
    }


def _compare(spec: EngineSpec, outputs: ClassifierOutputs, reference: ClassifierOutputs) -> OutputDifference:
    return compare_outputs(outputs, reference, find_engine(spec.engine).precisions[spec.precision])


def _predicted_seconds(benchmarks: Benchmarks, spec: EngineSpec, reference_seconds: float) -> float:
    """Return the seconds that a job would take, given those of the reference; inf if the engine cannot be used."""
    measured = benchmarks.get(str(spec), {})
    return measured["open"] + reference_seconds / measured["speed"] if measured.get("fits") else float("inf")


def _read_images(bundle: Bundle, read_sample: ReadSample) -> torch.Tensor | None:
    images = read_sample(tta_contract(bundle.contract, bundle.recipe.evaluate))
    return None if images is None else torch.from_numpy(images)


def _time_inference(infer: InferenceFn, images: torch.Tensor) -> tuple[ClassifierOutputs, float]:
    """Return the outputs of images, and the seconds per image."""
    infer(images[:2].numpy())  # the first call is slower
    start = time.perf_counter()
    outputs = infer(images.numpy())
    return outputs, (time.perf_counter() - start) / len(images)
