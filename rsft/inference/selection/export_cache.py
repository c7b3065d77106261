"""Cache the exports that `rsft predict` writes for itself, and the measured speeds of engines."""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from platformdirs import user_cache_path
from torch import Tensor

from rsft import __version__
from rsft.errors import RsftError
from rsft.inference.engines.base import Engine
from rsft.inference.engines.graph import GraphEngine
from rsft.inference.engines.inference_fn import GraphModel
from rsft.inference.export.export import write_export
from rsft.inference.export.metadata import installed_versions, read_export_metadata
from rsft.inference.export.reference_chips import find_labeled_chips
from rsft.models.bundle.bundle import Bundle
from rsft.utils.atomic_files import write_text

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
