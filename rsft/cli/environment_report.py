"""Check the environment of rsft: versions, device, threads, bfloat16, free space, weights."""

from __future__ import annotations

import os
import platform
import shutil
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from rsft.utils.download import weights_dir

Status = Literal["ok", "warn", "fail"]

PACKAGES = ("rsft", "torch", "torchvision", "torchgeo", "timm", "rasterio", "albumentations", "lightning")
WEIGHT_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
MIN_FREE_BYTES = 2e9
"""Free bytes of disk and memory below which a job is likely to fail."""


@dataclass(frozen=True)
class EnvironmentCheck:
    """One checked property; `hint` says what it means or what to do."""

    name: str
    value: str
    status: Status = "ok"
    hint: str = ""


@dataclass(frozen=True)
class EnvironmentReport:
    """All checks, in the order of display."""

    rows: tuple[EnvironmentCheck, ...]


def environment_report() -> EnvironmentReport:
    """Check this machine. Takes a few seconds.

    Returns:
        One row per check.
    """
    rows = [EnvironmentCheck("Python", platform.python_version()), *map(_version, PACKAGES), _gdal()]
    if not any(row.name == "torch" and row.status == "fail" for row in rows):
        rows += [_device(), _threads(), _load(), _bf16()]
    rows.append(_free_space("memory", _available_memory()))
    for name, folder in (("disk, working directory", Path.cwd()), ("disk, weights", weights_dir())):
        existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
        rows.append(_free_space(name, shutil.disk_usage(existing).free))
    rows += [_shipped_weights(), _other_weights()]
    return EnvironmentReport(tuple(rows))


def _version(package: str) -> EnvironmentCheck:
    try:
        return EnvironmentCheck(package, metadata.version(package))
    except metadata.PackageNotFoundError:
        return EnvironmentCheck(package, "not installed", "fail", f"pip install {package}")


def _gdal() -> EnvironmentCheck:
    try:
        import rasterio
    except ImportError as error:
        return EnvironmentCheck("GDAL", "rasterio cannot be imported", "fail", str(error))
    return EnvironmentCheck("GDAL", rasterio.__gdal_version__)


def _device() -> EnvironmentCheck:
    import torch

    if torch.cuda.is_available():
        names = ", ".join(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count()))
        return EnvironmentCheck("device", f"cuda ({names})")
    return EnvironmentCheck("device", f"cpu ({platform.machine()})", hint="torch sees no GPU")


def _threads() -> EnvironmentCheck:
    import torch

    used, usable = torch.get_num_threads(), _cores()
    value = f"{used} on {usable} cores"
    if used > usable:
        return EnvironmentCheck(
            "threads", value, "warn", f"more threads than cores are slow: set OMP_NUM_THREADS={usable}"
        )
    return EnvironmentCheck("threads", value, hint="OMP_NUM_THREADS limits them" if used < usable else "")


def _load() -> EnvironmentCheck:
    load = os.getloadavg()[0]
    if load > _cores() + 0.5:
        return EnvironmentCheck("load", f"{load:.1f}", "warn", "the machine is busy: measured speeds are unreliable")
    return EnvironmentCheck("load", f"{load:.1f}")


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _bf16() -> EnvironmentCheck:
    """Compare float32 with bfloat16 on a matrix product and on a training step of an MLP."""
    import torch

    from rsft.utils.precision_benchmark import MIN_SPEEDUP, matmul_speedup, training_step_speedup

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    product, training = (measure(device, torch.bfloat16) for measure in (matmul_speedup, training_step_speedup))
    value = f"speedup over float32: matrix product {product:.2g}, training step {training:.2g}"
    if training > MIN_SPEEDUP:
        return EnvironmentCheck("bfloat16", value, hint="use train.precision=bf16, or auto")
    slow = training < 0.8
    hint = "keep train.precision=fp32" + ", bf16 is slower on this machine" * slow
    return EnvironmentCheck("bfloat16", value, "warn" if slow else "ok", hint)


def _free_space(name: str, free: float | None) -> EnvironmentCheck:
    if free is None:
        return EnvironmentCheck(name, "unknown", hint="this system does not report it")
    if free < MIN_FREE_BYTES:
        return EnvironmentCheck(
            name, f"{free / 1e9:.1f} GB free", "warn", f"a job may need {MIN_FREE_BYTES / 1e9:g} GB"
        )
    return EnvironmentCheck(name, f"{free / 1e9:.1f} GB free")


def _available_memory() -> float | None:
    """Return the available bytes, including reclaimable file cache; None without /proc."""
    meminfo = Path("/proc/meminfo")
    if not meminfo.exists():
        return None
    fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
    return float(fields["MemAvailable"].split()[0]) * 1024


def _shipped_weights() -> EnvironmentCheck:
    files = _list_files(Path(__file__).parents[1] / "backbones" / "pretrained")
    if not files:
        return EnvironmentCheck("weights, shipped", "none", "fail", "reinstall rsft")
    return EnvironmentCheck("weights, shipped", files)


def _other_weights() -> EnvironmentCheck:
    folder = weights_dir()
    return EnvironmentCheck(
        "weights, others", f"{folder}: {_list_files(folder) or 'none'}", hint="set RSFT_WEIGHTS to use another folder"
    )


def _list_files(folder: Path) -> str:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix in WEIGHT_SUFFIXES)
    return ", ".join(f"{path.relative_to(folder)} ({path.stat().st_size / 1e6:.1f} MB)" for path in files)
