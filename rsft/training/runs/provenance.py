"""What must be known to repeat a run: the code, the packages, the machine, the data."""

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

PACKAGES = (
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
"""Those whose version may change a number."""


def provenance(recipe: Recipe, source: Path | None) -> dict[str, Any]:
    """For run.json; `source` is the file of the recipe, where it came from one."""
    return {
        "seed": recipe.seed,
        "recipe": recipe.model_dump(),
        "recipe_file": None if source is None else str(source.resolve()),
        "git": None if source is None else git_state(source),
        "data": data(Path(recipe.data.root)),
        "versions": versions(),
        "machine": platform.platform(),
        "hardware": hardware(),
    }


def versions() -> dict[str, str]:
    """Of Python and of the packages."""
    return {"python": platform.python_version()} | {name: metadata.version(name) for name in PACKAGES}


def hardware() -> dict[str, Any]:
    """Processor, cores and threads in use, memory in GB, and GPUs by name."""
    gpus = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
    return {
        "cpu": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "gpus": [torch.cuda.get_device_name(index) for index in gpus],
    }


def data(root: Path) -> dict[str, str]:
    """The prepared root and the hash of its manifest, which holds that of every chip."""
    return {"root": str(root.resolve()), "manifest_sha256": sha256(root / MANIFEST)}


def git_state(path: Path) -> dict[str, Any] | None:
    """Commit and cleanliness of the repository that holds a file or folder; None where there is none, or no git."""
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


def _processor() -> str:
    """Its name; /proc knows it where Python does not."""
    info = Path("/proc/cpuinfo")
    names = (
        [line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        if info.exists()
        else []
    )
    return names[0] if names else platform.processor() or platform.machine()
