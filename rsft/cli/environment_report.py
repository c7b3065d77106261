"""Check the environment: versions, device, threads, speed, free space, weights."""

import platform
import shutil
from importlib import metadata
from pathlib import Path
from typing import Literal, NamedTuple

import psutil

from rsft.utils.cell.named import OFF
from rsft.utils.cell.walls import describe_walls, landlock_version
from rsft.utils.operating_system import available_cores
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
    fault = ""
    if OFF or not landlock_version():
        fault = "RSFT_FENCE=off is set, or no Landlock (Linux only); see security.md"
    rows.append(_warn("reader cell", describe_walls(), fault))
    # including reclaimable file cache
    rows.append(_free_space("memory", psutil.virtual_memory().available))
    weights = weights_dir()
    for name, folder in (("working directory", Path.cwd()), ("weights", weights)):
        rows.append(_free_space(f"disk, {name}", free_disk(folder)))
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
    """Check device, threads, load, matrix products and bfloat16."""
    import torch

    from rsft.peft.kernels.matmul import choose_matmul
    from rsft.utils.speedup import has_instructions

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    rows = [
        EnvironmentCheck(
            "device", f"cpu ({platform.machine()})", hint="torch sees no GPU"
        )
    ]
    if device.type == "cuda":
        numbers = range(torch.cuda.device_count())
        names = ", ".join(torch.cuda.get_device_name(number) for number in numbers)
        rows = [EnvironmentCheck("device", f"cuda ({names})")]
    used = torch.get_num_threads()
    cores = len(available_cores())
    threads = EnvironmentCheck("threads", f"{used} on {cores} cores")
    if used < cores:
        threads = threads._replace(hint="OMP_NUM_THREADS limits them")
    elif used > cores:
        hint = f"more threads than cores are slow: set OMP_NUM_THREADS={cores}"
        threads = threads._replace(status="warn", hint=hint)
    load = psutil.getloadavg()[0]
    fault = ""
    if load > cores + 0.5:
        fault = "the machine is busy: measured speeds are unreliable"
    rows += [threads, _warn("load", f"{load:.1f}", fault)]
    hint = "measured once; RSFT_MATMUL=torch or onednn overrules it"
    rows.append(EnvironmentCheck("matrix products", choose_matmul(), hint=hint))
    speed = EnvironmentCheck(
        "bfloat16", "in hardware", hint="use train.precision=bf16, or auto"
    )
    if not has_instructions("bf16", device):
        hint = "keep train.precision=fp32"
        speed = EnvironmentCheck("bfloat16", "emulated, which is slow", "warn", hint)
    return [*rows, speed]


def free_disk(folder: Path) -> int:
    """Return the free bytes where a folder is, or where it would be made."""
    path = folder.absolute()
    existing = next(x for x in (path, *path.parents) if x.exists())
    return shutil.disk_usage(existing).free


def _free_space(name: str, free: float) -> EnvironmentCheck:
    fault = ""
    if free < MIN_FREE_BYTES:
        fault = f"a job may need {MIN_FREE_BYTES / 1e9:g} GB"
    return _warn(name, f"{free / 1e9:.1f} GB free", fault)


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
