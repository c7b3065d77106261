"""Load a bundle into any engine, and select the one that finishes a job first.

The exports that `rsft predict` writes for itself and the measured speeds of engines are
cached.
"""

import hashlib
import json
import math
import platform
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from platformdirs import user_cache_path
from torch import Tensor

from rsft.data.imagery.contract import Contract
from rsft.errors import RequestError, RsftError
from rsft.inference.engines import base
from rsft.inference.engines.export_metadata import (
    installed_versions,
    read_export_metadata,
)
from rsft.inference.engines.graph import GraphEngine, LoadedEngine, graph_engine
from rsft.inference.engines.traceable import OutputDifference, compare_outputs
from rsft.inference.export.export import find_training_store, write_export
from rsft.models.bundle.bundle import Bundle
from rsft.models.classifier import choose_device, with_tta
from rsft.models.outputs import ClassifierOutputs, tta_contract
from rsft.utils.atomic_files import write_text
from rsft.utils.operating_system import processor_name
from rsft.utils.speedup import measure_speedup
from rsft.version import __version__

ReadSample = Callable[[Contract], NDArray[np.float32] | None]
"""A function that reads the first chips of a job as network inputs (n, P, S, S); None
if no chip can be read."""

MAX_CACHED_BUNDLES = 8
"""Largest number of bundles with exports in the cache. The least recently used exports
are deleted."""

MIN_SECONDS_TO_MEASURE = 20.0
"""Other engines are only measured for jobs that take PyTorch at least this many
seconds."""

MIN_CHIPS_TO_MEASURE = 500
"""Other engines are only measured for jobs of at least this many chips: the
measurements classify about as many."""

MIN_SECONDS_TO_COMPILE = 300.0
"""Compilation is only tried for jobs that take PyTorch more than this many seconds."""


def load_engine(
    bundle: Bundle, spec: base.EngineSpec, device: str, images: Tensor | None = None
) -> LoadedEngine:
    """Load a bundle in any engine, with its test-time augmentation.

    If the engine runs exported graphs, the first call writes the export.

    Args:
        bundle: the bundle to load.
        spec: engine and precision.
        device: auto, cpu or cuda.
        images: network inputs of the job (n, P, S, S), used to check a new export.

    Raises:
        RequestError: the engine or the precision does not exist, or a package is not
            installed.
        WeightsError: the local backbone is not the bundle's, or an export differs from
            PyTorch.
    """
    engine = base.find_engine(spec.engine)
    engine.check(spec.precision, device)
    # the first call writes the export, and checks it on the images
    if isinstance(engine, GraphEngine):
        cache = _cache_folder(bundle)
        folder = cache / f"{engine.name}-{spec.precision}-{_hash(_versions([engine]))}"
        try:
            read_export_metadata(folder)
        except RsftError:
            cache.mkdir(parents=True, exist_ok=True)
            others = [path for path in cache.parent.iterdir() if path != cache]
            others.sort(key=lambda path: path.stat().st_mtime)
            for old in others[: max(0, len(others) + 1 - MAX_CACHED_BUNDLES)]:
                shutil.rmtree(old, ignore_errors=True)
            size = bundle.contract.size
            # one test-time view
            if images is None:
                crops = None
            else:
                crops = images[:, :, :size, :size]
            needs_labels = (
                engine.precisions[spec.precision].limit is None or images is None
            )
            if needs_labels:
                store = find_training_store(bundle, None)
            else:
                store = None
            write_export(bundle, engine, spec.precision, folder, store, images=crops)
        cache.touch()
        path = folder / engine.file_name
        return graph_engine(bundle, engine.open_graph(path, spec.precision), spec, path)
    assert isinstance(engine, base.DirectEngine), (
        f"{spec.engine} is neither a DirectEngine nor a GraphEngine"
    )
    loaded = engine.load(bundle, spec, device)
    model, contract = with_tta(loaded.model, bundle.contract, bundle.recipe.evaluate)

    @torch.inference_mode()
    def infer(images: NDArray[np.float32]) -> ClassifierOutputs:
        batches = torch.split(
            torch.from_numpy(images), loaded.batch_size or len(images)
        )
        outputs = [model.predict(batch.to(loaded.device)) for batch in batches]
        return ClassifierOutputs(
            *(
                torch.cat(column).float().cpu().numpy()
                for column in zip(*outputs, strict=True)
            )
        )

    return LoadedEngine(infer, contract, loaded.spec, loaded.note, loaded.concurrency)


def select_fastest(
    bundle: Bundle,
    precision: str | None,
    device: str,
    read_sample: ReadSample,
    chips: int,
    previous: str | None,
) -> LoadedEngine:
    """Return the fastest engine whose outputs match PyTorch float32 within tolerance.

    Args:
        bundle: the bundle to load.
        precision: fp32 or bf16; None allows both.
        device: auto, cpu or cuda.
        read_sample: reads chips for measurements and for the check of a new export.
        chips: number of chips of the job.
        previous: engine of the interrupted job; None for a new job.

    Raises:
        RequestError: the precision is int8.
        WeightsError: the local backbone is not the bundle's.
    """
    if precision == "int8":
        message = "int8 outputs differ from float32, so auto does not select int8"
        names = " or ".join(
            engine.name
            for engine in base.all_engines()
            if precision in engine.precisions
        )
        raise RequestError(
            message, "--precision", f"name the engine as well: --engine {names}"
        )
    reference = load_engine(bundle, base.REFERENCE, device)._replace(requested="auto")
    images = read_images(bundle, read_sample)
    if images is None:
        return reference
    outputs, seconds_per_chip = _time_inference(reference, images)
    duration = seconds_per_chip * chips
    is_short = duration < MIN_SECONDS_TO_MEASURE or chips < MIN_CHIPS_TO_MEASURE
    if previous is None and is_short and precision != "bf16":
        return reference._replace(reason="job too short to benchmark other engines")
    device_type = choose_device(device).type
    specs = [
        spec for engine in base.all_engines() for spec in engine.candidates(device_type)
    ]
    specs = [spec for spec in specs if precision in (None, spec.precision)]
    specs.sort(key=lambda spec: spec.engine != base.REFERENCE.engine)
    to_measure = [
        spec for spec in specs if not spec.compiled or duration > MIN_SECONDS_TO_COMPILE
    ]
    benchmarks = _read_benchmarks(
        bundle, device, reference, images, to_measure if previous is None else []
    )

    def expected_seconds(spec: base.EngineSpec) -> float:
        benchmark = benchmarks.get(str(spec), {})
        if str(spec) == previous:
            return 0.0
        if benchmark.get("fits"):
            return float(benchmark["open"] + duration / benchmark["speed"])
        return math.inf

    for spec in sorted(specs, key=expected_seconds):
        if expected_seconds(spec) == math.inf:
            break
        if spec == base.REFERENCE:
            return reference._replace(
                reason="the fastest engine on these chips", benchmarks=benchmarks
            )
        loaded = load_engine(bundle, spec, device, images)
        difference = _compare(spec, loaded.infer(images.numpy()), outputs)
        if difference.fits:
            speed = benchmarks.get(str(spec), {}).get("speed", 1.0)
            reason = (
                f"{speed:.1f} x torch fp32; logits differ by {difference.largest:.2g}"
            )
            return loaded._replace(
                requested="auto", reason=reason, benchmarks=benchmarks
            )
    return reference._replace(
        reason="no other engine matches it on these chips", benchmarks=benchmarks
    )


def read_images(bundle: Bundle, read_sample: ReadSample) -> Tensor | None:
    """Return a job's first chips as network inputs (n, P, S, S), or None.

    It is None if no chip can be read.
    """
    images = read_sample(tta_contract(bundle.contract, bundle.recipe.evaluate))
    if images is None:
        return None
    return torch.from_numpy(images)


def _read_benchmarks(
    bundle: Bundle,
    device: str,
    reference: LoadedEngine,
    images: Tensor,
    specs: Sequence[base.EngineSpec],
) -> dict[str, dict[str, Any]]:
    """Return the measurements of this bundle on this machine.

    Those that are not stored are measured and stored.
    """
    machine = [platform.node(), processor_name(), torch.get_num_threads(), device]
    path = (
        _cache_folder(bundle)
        / f"benchmarks-{_hash([machine, _versions(base.all_engines())])}.json"
    )
    benchmarks: dict[str, dict[str, Any]] = {}
    with suppress(OSError, ValueError):  # missing or damaged: measured again
        benchmarks = dict(json.loads(path.read_text("utf-8")))
    for spec in specs:
        if str(spec) not in benchmarks:
            benchmarks[str(spec)] = _measure(bundle, spec, device, reference, images)
            write_text(path, json.dumps(benchmarks, indent=1))
    return benchmarks


def _measure(
    bundle: Bundle,
    spec: base.EngineSpec,
    device: str,
    reference: LoadedEngine,
    images: Tensor,
) -> dict[str, Any]:
    """Return relative speed, load seconds and difference of outputs, or a reason.

    The reason says why the engine cannot be used.
    """
    if spec == base.REFERENCE:
        return {"speed": 1.0, "open": 0.0, "difference": 0.0, "fits": True}
    try:
        # writes the export if needed, so that only loading is timed below
        load_engine(bundle, spec, device, images)
        start = time.perf_counter()
        loaded = load_engine(bundle, spec, device, images)
        seconds = time.perf_counter() - start
        if loaded.spec != spec:
            return {"failed": loaded.note}
        difference = _compare(
            spec, loaded.infer(images.numpy()), reference.infer(images.numpy())
        )
        speed = measure_speedup(
            lambda: reference.infer(images.numpy()),
            lambda: loaded.infer(images.numpy()),
            3,
            20.0,
        )
    except Exception as error:  # an engine that fails cannot be selected
        return {"failed": base.first_line(error)}
    return {
        "speed": round(speed, 2),
        "open": round(seconds, 2),
        "difference": difference.largest,
        "fits": difference.fits,
    }


def _compare(
    spec: base.EngineSpec, outputs: ClassifierOutputs, reference: ClassifierOutputs
) -> OutputDifference:
    return compare_outputs(
        outputs, reference, base.find_engine(spec.engine).precisions[spec.precision]
    )


def _time_inference(
    engine: LoadedEngine, images: Tensor
) -> tuple[ClassifierOutputs, float]:
    """Return the outputs of images, and the seconds per image."""
    engine.infer(images[:2].numpy())  # the first call is slower
    start = time.perf_counter()
    outputs = engine.infer(images.numpy())
    return outputs, (time.perf_counter() - start) / len(images)


def _versions(engines: Sequence[base.Engine]) -> dict[str, str]:
    packages = [package for engine in engines for package in engine.packages]
    return {"rsft": __version__, **installed_versions(("torch", "timm", *packages))}


def _cache_folder(bundle: Bundle) -> Path:
    return user_cache_path("rsft") / "engines" / bundle.sha256[:16]


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:12]
