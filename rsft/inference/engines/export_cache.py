"""Exports that prediction made for itself, in the user's cache, and how fast they were here."""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from platformdirs import user_cache_path
from torch import Tensor

from rsft import __version__
from rsft.errors import RsftError
from rsft.inference.export.export import check_kind, write_export
from rsft.inference.export.metadata import read_about, versions
from rsft.inference.export.reference_chips import find_labelled
from rsft.inference.export.runtimes import FILES, Runtime, open_graph
from rsft.models.bundle.bundle import Bundle
from rsft.utils.atomic_files import write_text

KEPT = 8
"""Bundles whose exports are kept; those that were not used for longest go."""

Facts = dict[str, dict[str, Any]]


def kept_runtime(bundle: Bundle, kind: str, precision: str, images: Tensor | None) -> Callable[[], Runtime]:
    """How to open the bundle in another runtime; its export is made first where the cache has none.

    Args:
        images: chips of the job, which a new export is checked on.

    Raises:
        As `write_export`.
    """
    check_kind(kind, precision)
    folder = _folder(bundle) / f"{kind}-{precision}-{_key(_versions())}"
    try:
        read_about(folder)
    except RsftError:
        _make_room(folder.parent)
        size = bundle.contract.size  # of test-time crops the first
        first = None if images is None else images[:, :, :size, :size]
        labelled = find_labelled(bundle, None) if precision == "int8" or images is None else None
        write_export(bundle, kind, precision, folder, labelled, images=first)
    folder.parent.touch()
    return lambda: open_graph(kind, folder / FILES[kind], precision)


def measured(bundle: Bundle, device: str) -> Facts:
    """What was noted of each engine with this bundle, these versions and this machine; nothing at first."""
    with suppress(OSError, ValueError):
        return dict(json.loads(_book(bundle, device).read_text("utf-8")))
    return {}


def note_measured(bundle: Bundle, device: str, facts: Facts) -> None:
    """Note it for the next job."""
    write_text(_book(bundle, device), json.dumps(facts, indent=1))


def _book(bundle: Bundle, device: str) -> Path:
    machine = [platform.node(), _processor(), torch.get_num_threads(), device]
    return _folder(bundle) / f"measured-{_key([machine, _versions()])}.json"


def _processor() -> str:
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next((line for line in lines if line.startswith("model name")), platform.machine())
    return platform.processor() or platform.machine()


def _versions() -> dict[str, str]:
    return {"rsft": __version__, **versions(("torch", "timm", "onnxruntime", "openvino"))}


def _folder(bundle: Bundle) -> Path:
    return user_cache_path("rsft") / "engines" / bundle.sha256[:16]


def _key(told: object) -> str:
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:12]


def _make_room(folder: Path) -> None:
    """Before an export is made in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    others = sorted((path for path in folder.parent.iterdir() if path != folder), key=lambda path: path.stat().st_mtime)
    for old in others[: max(0, len(others) + 1 - KEPT)]:
        shutil.rmtree(old, ignore_errors=True)
