"""Select the engine that finishes a job first according to measurements, among those that match PyTorch.

Cache the exports that `rsft predict` writes for itself, and the measured speeds of engines.

Load a bundle into an engine, with PyTorch: as the engine, or to write the export that another engine runs.
"""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from platformdirs import user_cache_path
from torch import Tensor

from rsft.errors import RequestError, RsftError
from rsft.inference.engines.base import (
    REFERENCE,
    DirectEngine,
    Engine,
    EngineModel,
    EngineSpec,
    InferenceFn,
    all_engines,
    find_engine,
)
from rsft.inference.engines.graph import GraphEngine, GraphModel
from rsft.inference.export.export import write_export
from rsft.inference.export.metadata import installed_versions, read_export_metadata
from rsft.inference.export.parity import OutputDifference, compare_outputs, find_labeled_chips
from rsft.inference.selection.selection import LoadedEngine, ReadSample, SelectedEngine, describe_engine, graph_engine
from rsft.models.averaging import with_tta
from rsft.models.bundle.bundle import Bundle
from rsft.models.factory import choose_device
from rsft.models.outputs import ClassifierOutputs, tta_contract
from rsft.utils.atomic_files import write_text
from rsft.utils.precision_benchmark import measure_speedup
from rsft.version import __version__

MAX_CACHED_BUNDLES = 8
"""Largest number of bundles with exports in the cache. The least recently used exports are deleted."""

Benchmarks = dict[str, dict[str, Any]]
"""Measurements by engine; the keys are `str(EngineSpec)`."""


def open_cached_export(engine: GraphEngine, bundle: Bundle, precision: str, images: Tensor | None) -> GraphModel:
    """Open the cached export of a bundle, or write it first.

    Args:
        engine: writes and opens the export.
        bundle: the bundle to export.
        precision: a precision that the engine supports.
        images: network inputs of the job (n, P, S, S), used to check a new export; None without such inputs.

    Returns:
        The opened graph.

    Raises:
        RequestError: packages are missing, or int8 lacks training chips.
        WeightsError: the export differs from PyTorch.
        AccuracyLossError: int8 loses too much accuracy.
    """
    folder = _bundle_folder(bundle) / f"{engine.name}-{precision}-{_hash(_versions([engine]))}"
    try:
        read_export_metadata(folder)
    except RsftError:
        _make_bundle_folder(folder.parent)
        size = bundle.contract.size
        crops = None if images is None else images[:, :, :size, :size]  # one test-time view
        needs_labels = engine.precisions[precision].limit is None or images is None
        labeled = find_labeled_chips(bundle, None) if needs_labels else None
        write_export(bundle, engine, precision, folder, labeled, images=crops)
    folder.parent.touch()
    return engine.open_graph(folder / engine.file_name, precision)


def benchmark_path(bundle: Bundle, device: str, engines: Sequence[Engine]) -> Path:
    """Return the path of the measurements of a bundle on this machine with the installed package versions.

    Args:
        bundle: the measured bundle.
        device: auto, cpu or cuda.
        engines: engines whose package versions are part of the name.
    """
    machine = [platform.node(), _processor(), torch.get_num_threads(), device]
    return _bundle_folder(bundle) / f"measured-{_hash([machine, _versions(engines)])}.json"


def read_benchmarks(path: Path) -> Benchmarks:
    """Read measurements. They are empty if the file is missing or damaged.

    Args:
        path: see `benchmark_path`.

    Returns:
        Measurements by engine.
    """
    with suppress(OSError, ValueError):
        return dict(json.loads(path.read_text("utf-8")))
    return {}


def write_benchmarks(path: Path, benchmarks: Benchmarks) -> None:
    """Write measurements for the next job.

    Args:
        path: see `benchmark_path`.
        benchmarks: measurements by engine.
    """
    write_text(path, json.dumps(benchmarks, indent=1))


def _processor() -> str:
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next((line for line in lines if line.startswith("model name")), platform.machine())
    return platform.processor() or platform.machine()


def _versions(engines: Sequence[Engine]) -> dict[str, str]:
    packages = [package for engine in engines for package in engine.packages]
    return {"rsft": __version__, **installed_versions(("torch", "timm", *packages))}


def _bundle_folder(bundle: Bundle) -> Path:
    return user_cache_path("rsft") / "engines" / bundle.sha256[:16]


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:12]


def _make_bundle_folder(folder: Path) -> None:
    """Create the folder of a bundle, and delete the least recently used folders above `MAX_CACHED_BUNDLES`."""
    folder.mkdir(parents=True, exist_ok=True)
    others = sorted((path for path in folder.parent.iterdir() if path != folder), key=lambda path: path.stat().st_mtime)
    for old in others[: max(0, len(others) + 1 - MAX_CACHED_BUNDLES)]:
        shutil.rmtree(old, ignore_errors=True)


def load_reference_engine(bundle: Bundle, device: str = "auto") -> LoadedEngine:
    """Load a bundle in PyTorch in float32, with PEFT modules merged.

    Args:
        bundle: the bundle to load.
        device: auto, cpu or cuda.

    Returns:
        The engine with which others are compared.

    Raises:
        WeightsError: the backbone on this machine is not the one that the bundle was trained on.
    """
    return load_engine(bundle, REFERENCE, device)


def load_engine(bundle: Bundle, spec: EngineSpec, device: str, images: Tensor | None = None) -> LoadedEngine:
    """Load a bundle in any engine. If the engine runs exported graphs, the first call writes the export.

    Args:
        bundle: the bundle to load.
        spec: engine and precision.
        device: auto, cpu or cuda.
        images: network inputs of the job (n, P, S, S), used to check a new export.

    Returns:
        The engine with the bundle's test-time augmentation.

    Raises:
        RequestError: the engine or the precision does not exist, or a package is not installed.
        WeightsError: the local backbone is not the bundle's, or an export differs from PyTorch.
    """
    engine = find_engine(spec.engine)
    engine.check(spec.precision, device)
    if isinstance(engine, GraphEngine):
        return graph_engine(bundle, open_cached_export(engine, bundle, spec.precision, images), spec)
    assert isinstance(engine, DirectEngine), f"{spec.engine} is neither a DirectEngine nor a GraphEngine"
    return _add_tta(bundle, engine.load(bundle, spec, device))


def _add_tta(bundle: Bundle, loaded: EngineModel) -> LoadedEngine:
    """Add test-time views, and split the inputs into batches."""
    model, contract = with_tta(loaded.model, bundle.contract, bundle.recipe.evaluate)

    @torch.inference_mode()
    def infer(images: NDArray[np.float32]) -> ClassifierOutputs:
        batches = torch.split(torch.from_numpy(images), loaded.batch_size or len(images))
        outputs = [model.predict(batch.to(loaded.device)) for batch in batches]
        return ClassifierOutputs(*(torch.cat(column).float().cpu().numpy() for column in zip(*outputs, strict=True)))

    return LoadedEngine(infer, contract, loaded.spec, loaded.note, loaded.concurrency)


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
