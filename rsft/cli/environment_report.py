"""Check the environment: versions, device, threads, speed, free space, weights."""

import platform
from importlib import metadata
from pathlib import Path
from typing import Literal, NamedTuple

import psutil

from rsft.utils.cell.named import OFF
from rsft.utils.cell.walls import describe_walls, landlock_version
from rsft.utils.operating_system import available_cores, free_disk
from rsft.utils.user_folders import weights_dir

Status = Literal["ok", "warn", "fail"]

PACKAGES = (
    "rsft",
    "torch",
    "torchvision",
    "torchgeo",
    "timm",
    "rasterio",
    "albumentations",
    "lightning",
)
MIN_FREE_BYTES = 2e9
"""Free bytes of disk and memory below which a job is likely to fail."""


class EnvironmentCheck(NamedTuple):
    """One checked property; `hint` says what it means or what to do."""

    name: str
    value: str
    status: Status = "ok"
    hint: str = ""


def environment_report() -> list[EnvironmentCheck]:
    """Check this machine, one row per check. Takes a few seconds."""
    rows = [
        EnvironmentCheck("Python", platform.python_version()),
        *map(_version, PACKAGES),
    ]
    if not any(row.name == "torch" and row.status == "fail" for row in rows):
        rows += _processor()
    fault = ""
    if OFF or not landlock_version():
        fault = "RSFT_FENCE=off is set, or no Landlock (Linux only); see security.md"
    rows.append(_warn("reader cell", describe_walls(), fault))
    # including reclaimable file cache
    rows.append(_free_space("memory", psutil.virtual_memory().available))
    weights = weights_dir()
    for name, folder in (("working directory", Path.cwd()), ("weights", weights)):
        rows.append(_free_space(f"disk, {name}", free_disk(folder)))
    hint = "set RSFT_WEIGHTS to use another folder"
    rows.append(EnvironmentCheck("weights", str(weights), hint=hint))
    return rows


def _warn(name: str, value: str, fault: str) -> EnvironmentCheck:
    """Return a check that is in order if `fault` is ""."""
    return EnvironmentCheck(name, value, "warn" if fault else "ok", fault)


def _version(package: str) -> EnvironmentCheck:
    try:
        return EnvironmentCheck(package, metadata.version(package))
    except metadata.PackageNotFoundError:
        return EnvironmentCheck(
            package, "not installed", "fail", f"pip install {package}"
        )


def _processor() -> list[EnvironmentCheck]:
    """Check device, threads, matrix products and bfloat16."""
    import torch

    from rsft.peft.kernels.matmul import choose_matmul
    from rsft.utils.speedup import has_instructions

    name = "cpu"
    hint = "torch sees no GPU"
    if torch.cuda.is_available():
        name = "cuda"
        hint = torch.cuda.get_device_name()
    rows = [EnvironmentCheck("device", name, hint=hint)]
    threads = f"{torch.get_num_threads()} on {len(available_cores())} cores"
    hint = "OMP_NUM_THREADS limits them; more threads than cores are slow"
    rows.append(EnvironmentCheck("threads", threads, hint=hint))
    hint = "measured once; RSFT_MATMUL=torch or onednn overrules it"
    rows.append(EnvironmentCheck("matrix products", choose_matmul(), hint=hint))
    speed = EnvironmentCheck(
        "bfloat16", "in hardware", hint="use train.precision=bf16, or auto"
    )
    if not has_instructions("bf16", torch.device(name)):
        hint = "keep train.precision=fp32"
        speed = EnvironmentCheck("bfloat16", "emulated, which is slow", "warn", hint)
    return [*rows, speed]


def _free_space(name: str, free: float) -> EnvironmentCheck:
    fault = ""
    if free < MIN_FREE_BYTES:
        fault = f"a job may need {MIN_FREE_BYTES / 1e9:g} GB"
    return _warn(name, f"{free / 1e9:.1f} GB free", fault)
