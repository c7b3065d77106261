"""Record the origin of a run, so that it can be repeated: code, packages, machine, data."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from rsft.data.chips.store import MANIFEST
from rsft.recipe.schema import Recipe
from rsft.utils.atomic_files import sha256

RECORDED_PACKAGES = (
    "rsft",
    "torch",
    "lightning",
    "timm",
    "torchvision",
    "torchgeo",
    "rasterio",
    "albumentations",
    "numpy",
    "pandas",
)
"""Packages with versions that may change a result."""


def collect_provenance(recipe: Recipe, source: Path | None) -> dict[str, Any]:
    """Return the entries of run.json on the origin of a run.

    Args:
        recipe: the recipe, with all defaults filled in.
        source: the recipe's file; None for a recipe that was made in Python.

    Returns:
        "seed", "recipe", "recipe_file", "git", "data", "versions", "machine" and "hardware".
    """
    return {
        "seed": recipe.seed,
        "recipe": recipe.model_dump(),
        "recipe_file": None if source is None else str(source.resolve()),
        "git": None if source is None else git_state(source),
        "data": identify_data(Path(recipe.data.root)),
        "versions": package_versions(),
        "machine": platform.platform(),
        "hardware": describe_hardware(),
    }


def package_versions() -> dict[str, str]:
    """Return the versions of Python and of `RECORDED_PACKAGES`.

    Returns:
        Name -> version.
    """
    return {"python": platform.python_version()} | {name: metadata.version(name) for name in RECORDED_PACKAGES}


def describe_hardware() -> dict[str, Any]:
    """Return the hardware of this machine.

    Returns:
        "cpu" (name), "cores" (available to this process), "threads" (of torch), "memory_gb" and "gpus" (names).
    """
    gpus = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
    return {
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "gpus": [torch.cuda.get_device_name(index) for index in gpus],
    }


def identify_data(root: Path) -> dict[str, str]:
    """Return path and version of a chip store.

    Args:
        root: the chip store.

    Returns:
        "root" and "manifest_sha256"; the manifest contains the hash of every chip.
    """
    return {"root": str(root.resolve()), "manifest_sha256": sha256(root / MANIFEST)}


def git_state(path: Path) -> dict[str, Any] | None:
    """Return the state of the Git repository around a path.

    Args:
        path: a file or folder.

    Returns:
        "commit" and "dirty"; None without a repository, without a commit, or without git.
    """
    folder = path if path.is_dir() else path.parent
    commit = _git(folder, "rev-parse", "HEAD")
    changes = _git(folder, "status", "--porcelain")
    return None if commit is None or changes is None else {"commit": commit, "dirty": bool(changes)}


def _git(folder: Path, *arguments: str) -> str | None:
    command = ["git", "--no-optional-locks", "-C", str(folder), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def _cpu_name() -> str:
    """Return the name of the processor, from /proc/cpuinfo if possible, else from Python's `platform`."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
