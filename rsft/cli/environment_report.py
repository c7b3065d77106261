"""Check the environment: versions, device, threads, speed, free space, weights."""

import os
import platform
import shutil
from importlib import metadata
from pathlib import Path
from typing import Literal, NamedTuple

import psutil

from rsft.utils.download import weights_dir
from rsft.utils.fence import describe_fence
from rsft.utils.operating_system import available_cores

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
WEIGHT_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
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
    try:
        import rasterio

        rows.append(EnvironmentCheck("GDAL", rasterio.__gdal_version__))
    except ImportError as error:
        rows.append(
            EnvironmentCheck("GDAL", "rasterio cannot be imported", "fail", str(error))
        )
    if not any(row.name == "torch" and row.status == "fail" for row in rows):
        rows += _processor()
    fence = describe_fence()
    hint = "off: RSFT_FENCE=off is set, or no Landlock (Linux only); see security.md"
    if fence:
        rows.append(EnvironmentCheck("fence", fence))
    else:
        rows.append(EnvironmentCheck("fence", "none", "warn", hint))
    # including reclaimable file cache
    rows.append(_free_space("memory", psutil.virtual_memory().available))
    weights = weights_dir()
    for name, folder in (("working directory", Path.cwd()), ("weights", weights)):
        existing = next(x for x in (folder, *folder.parents) if x.exists())
        free = shutil.disk_usage(existing).free
        rows.append(_free_space(f"disk, {name}", free))
    shipped = _list_files(Path(__file__).parents[1] / "backbones" / "pretrained")
    if shipped:
        rows.append(EnvironmentCheck("weights, shipped", shipped))
    else:
        hint = "reinstall rsft"
        rows.append(EnvironmentCheck("weights, shipped", "none", "fail", hint))
    others = f"{weights}: {_list_files(weights) or 'none'}"
    hint = "set RSFT_WEIGHTS to use another folder"
    rows.append(EnvironmentCheck("weights, others", others, hint=hint))
    return rows


def _version(package: str) -> EnvironmentCheck:
    try:
        return EnvironmentCheck(package, metadata.version(package))
    except metadata.PackageNotFoundError:
        return EnvironmentCheck(
            package, "not installed", "fail", f"pip install {package}"
        )


def _processor() -> list[EnvironmentCheck]:
    """Check device, threads and load, and compare float32 with bfloat16."""
    import torch

    from rsft.training.precision import has_instructions

    used = torch.get_num_threads()
    load = psutil.getloadavg()[0]
    cores = len(available_cores())
    names = ", ".join(
        torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())
    )
    rows = [EnvironmentCheck("device", f"cuda ({names})")]
    if not torch.cuda.is_available():
        rows = [
            EnvironmentCheck(
                "device", f"cpu ({platform.machine()})", hint="torch sees no GPU"
            )
        ]
    if used > cores:
        hint = f"more threads than cores are slow: set OMP_NUM_THREADS={cores}"
    else:
        hint = ""
    hint = "OMP_NUM_THREADS limits them" if used < cores else hint
    rows.append(
        EnvironmentCheck(
            "threads",
            f"{used} on {cores} cores",
            "warn" if used > cores else "ok",
            hint,
        )
    )
    policy = os.environ.get("OMP_WAIT_POLICY", "active").lower()
    if policy == "passive":
        hint = ""
    else:
        hint = "OMP_WAIT_POLICY=passive keeps the speed beside other busy processes"
    rows.append(
        EnvironmentCheck(
            "waiting threads",
            "spin" if hint else "sleep",
            "warn" if hint else "ok",
            hint,
        )
    )
    busy = load > cores + 0.5
    if busy:
        hint = "the machine is busy: measured speeds are unreliable"
    else:
        hint = ""
    rows.append(EnvironmentCheck("load", f"{load:.1f}", "warn" if busy else "ok", hint))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    hint = "use train.precision=bf16, or auto"
    value = "in hardware"
    status: Status = "ok"
    if not has_instructions("bf16", device):
        hint = "keep train.precision=fp32"
        value = "emulated, which is slow"
        status = "warn"
    return [*rows, EnvironmentCheck("bfloat16", value, status, hint)]


def _free_space(name: str, free: float) -> EnvironmentCheck:
    is_low = free < MIN_FREE_BYTES
    if is_low:
        hint = f"a job may need {MIN_FREE_BYTES / 1e9:g} GB"
    else:
        hint = ""
    return EnvironmentCheck(
        name, f"{free / 1e9:.1f} GB free", "warn" if is_low else "ok", hint
    )


def _list_files(folder: Path) -> str:
    files = sorted(
        path
        for path in folder.rglob("*")
        if path.is_file() and path.suffix in WEIGHT_SUFFIXES
    )
    return ", ".join(
        f"{path.relative_to(folder)} ({path.stat().st_size / 1e6:.1f} MB)"
        for path in files
    )
