"""What this machine has and how fast it is: versions, device, threads, bfloat16, room, weights."""

from __future__ import annotations

import os
import platform
import shutil
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from rsft.utils.download import weights_folder

Status = Literal["ok", "warn", "fail"]

PACKAGES = ("rsft", "torch", "torchvision", "torchgeo", "timm", "rasterio", "albumentations", "lightning")
WEIGHT_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
ROOM_WANTED = 2e9
"""Bytes of disk and of memory below which a job is likely to fail."""


@dataclass(frozen=True)
class Check:
    """One thing looked at; `hint` says what it means or what to do about it."""

    name: str
    value: str
    status: Status = "ok"
    hint: str = ""


@dataclass(frozen=True)
class Report:
    """Everything looked at, in the order to show it."""

    rows: tuple[Check, ...]


def examine() -> Report:
    """Look at the machine, in a few seconds."""
    rows = [Check("Python", platform.python_version()), *map(_version, PACKAGES), _gdal()]
    if not any(row.name == "torch" and row.status == "fail" for row in rows):
        rows += [_device(), _threads(), _load(), _bf16()]
    rows.append(_room("memory", _available_memory()))
    for name, folder in (("disk, here", Path.cwd()), ("disk, weights", weights_folder())):
        existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
        rows.append(_room(name, shutil.disk_usage(existing).free))
    rows += [_shipped_weights(), _other_weights()]
    return Report(tuple(rows))


def _version(package: str) -> Check:
    try:
        return Check(package, metadata.version(package))
    except metadata.PackageNotFoundError:
        return Check(package, "not installed", "fail", f"pip install {package}")


def _gdal() -> Check:
    try:
        import rasterio
    except ImportError as error:
        return Check("GDAL", "rasterio cannot be imported", "fail", str(error))
    return Check("GDAL", rasterio.__gdal_version__)


def _device() -> Check:
    import torch

    if torch.cuda.is_available():
        names = ", ".join(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count()))
        return Check("device", f"cuda ({names})")
    return Check("device", f"cpu ({platform.machine()})", hint="no GPU that torch can use")


def _threads() -> Check:
    import torch

    used, usable = torch.get_num_threads(), _cores()
    value = f"{used} on {usable} cores"
    if used > usable:
        return Check("threads", value, "warn", f"more threads than cores are slower: set OMP_NUM_THREADS={usable}")
    return Check("threads", value, hint="OMP_NUM_THREADS holds them down" if used < usable else "")


def _load() -> Check:
    load = os.getloadavg()[0]
    if load > _cores() + 0.5:
        return Check("load", f"{load:.1f}", "warn", "the machine is busy: speeds measured now say little")
    return Check("load", f"{load:.1f}")


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _bf16() -> Check:
    """float32 against bfloat16 where a vision transformer spends its time: a matrix product, and a step of its MLP."""
    import torch

    from rsft.utils.precision_benchmark import PAYS, product_speed, step_speed

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    product, training = (measure(device, torch.bfloat16) for measure in (product_speed, step_speed))
    value = f"matrix product x {product:.2g}, training step x {training:.2g} as fast as in float32"
    if training > PAYS:
        return Check("bfloat16", value, hint="use train.precision=bf16, or auto")
    slow = training < 0.8
    return Check(
        "bfloat16", value, "warn" if slow else "ok", "keep train.precision=32" + ", bf16 is slower here" * slow
    )


def _room(name: str, free: float | None) -> Check:
    if free is None:
        return Check(name, "unknown", hint="this system does not tell")
    if free < ROOM_WANTED:
        return Check(name, f"{free / 1e9:.1f} GB free", "warn", f"a job may want {ROOM_WANTED / 1e9:g} GB")
    return Check(name, f"{free / 1e9:.1f} GB free")


def _available_memory() -> float | None:
    """Bytes, counting what the file cache would give back; None where there is no /proc."""
    meminfo = Path("/proc/meminfo")
    if not meminfo.exists():
        return None
    fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
    return float(fields["MemAvailable"].split()[0]) * 1024


def _shipped_weights() -> Check:
    files = _list_files(Path(__file__).parents[1] / "backbones" / "pretrained")
    if not files:
        return Check("weights, shipped", "none", "fail", "install rsft anew")
    return Check("weights, shipped", files)


def _other_weights() -> Check:
    folder = weights_folder()
    return Check(
        "weights, others", f"{folder}: {_list_files(folder) or 'none'}", hint="RSFT_WEIGHTS names another folder"
    )


def _list_files(folder: Path) -> str:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix in WEIGHT_SUFFIXES)
    return ", ".join(f"{path.relative_to(folder)} ({path.stat().st_size / 1e6:.1f} MB)" for path in files)
