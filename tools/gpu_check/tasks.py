"""All tasks of the program, and the machine that runs them.

Imports of PyTorch lie in functions: only the process of the tasks needs it.
"""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Sequence
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from tools.gpu_check.rows import Figure, Task
from tools.gpu_check.supervisor import Machine

if TYPE_CHECKING:
    import torch

    from tools.benchmarks.operators import OperatorCounter

SECTIONS = ("equality", "quickstart", "operators", "chips", "training", "prediction")
PACKAGES = ("rsft", "torch", "timm", "peft")


def make_tasks(
    device_name: str, dry_run: bool, folder: Path, skip: Sequence[str]
) -> tuple[Machine, list[Task]]:
    """Return the machine and all tasks but those of the sections to skip.

    Args:
        device_name: auto, cuda, mps or cpu.
        dry_run: with tiny networks; "auto" is the CPU then.
        folder: folder of chips and runs.
        skip: names of sections.

    Raises:
        ValueError: the machine lacks the device, or a section does not exist.
    """
    unknown = sorted(set(skip) - set(SECTIONS))
    if unknown:
        raise ValueError(f"no section {unknown[0]}: choose from {', '.join(SECTIONS)}")
    device = find_device(device_name, dry_run)
    from tools.gpu_check import chips, equality, quickstart, speed, training
    from tools.gpu_check.sizes import FULL, TINY

    sizes = TINY if dry_run else FULL
    store = partial(quickstart.write_store, folder, sizes)

    def train() -> list[Figure]:
        runs = folder / "runs"
        return quickstart.train_quickstart(store(), runs, device.type, sizes.overrides)

    tasks = [
        *equality.equality_tasks(sizes.equality, device),
        *training.training_tasks(store, device, ("train.batch_size=4",)),
        Task("quickstart", "recipes/quickstart.yaml", train),
        *operator_tasks(sizes.operator_blocks),
        *chips.chip_tasks(store, device, sizes.loaded_side),
        *speed.training_tasks(sizes, device),
        *speed.prediction_tasks(sizes, device),
    ]
    # compilers take long, so that their rows are the ones that the time may not reach
    tasks.sort(key=lambda task: "compiled" in task.name)
    remaining = [task for task in tasks if task.section not in skip]
    return describe_machine(device), remaining


def find_device(name: str, dry_run: bool) -> torch.device:
    """Return the device to check.

    Args:
        name: auto, cuda, mps or cpu.
        dry_run: whether "auto" is the CPU, else it is a GPU.

    Raises:
        ValueError: the machine lacks it.
    """
    import torch

    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        gpus = [gpu for gpu in ("cuda", "mps") if available[gpu] and not dry_run]
        name = "cpu" if dry_run else next(iter(gpus), "auto")
    if not available.get(name):
        wanted = "GPU" if name == "auto" else f"{name} device"
        raise ValueError(f"this machine has no {wanted}")
    return torch.device(name)


def operator_tasks(blocks: int) -> list[Task]:
    """Count the operators of a step, which a GPU starts one by one.

    Args:
        blocks: blocks of the network.

    Returns:
        One task per kind of step and precision; that of Hugging Face PEFT first.
    """
    from tools.benchmarks.operators import ROWS, Sizes, count_operators, peft_step
    from tools.gpu_check.speed import PEER, require_peft

    def count(name: str, bf16: bool) -> list[Figure]:
        if ROWS[name] is peft_step:
            require_peft()
        counter: OperatorCounter = count_operators(ROWS[name](Sizes(blocks), bf16))
        waits = counter.waits
        return [
            Figure(counter.network.total(), "operators"),
            Figure(waits, "waits before the optimizer step"),
        ]

    tasks = []
    for bf16 in (False, True):
        suffix = f", {blocks} blocks, {'bfloat16' if bf16 else 'float32'}"
        for name in ROWS:
            peer = "" if name == PEER else PEER + suffix
            run = partial(count, name, bf16)
            tasks.append(Task("operators", name + suffix, run, peer))
    return tasks


def describe_machine(device: torch.device) -> Machine:
    """Return device, processor, system and versions."""
    import torch

    from rsft.utils.operating_system import available_cores, processor_name

    name = platform.machine()
    if device.type == "cuda":
        name = torch.cuda.get_device_name()
    return {
        "device": device.type,
        "name": name,
        "processor": processor_name(),
        "cores": len(available_cores()),
        "threads": torch.get_num_threads(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {package: _version(package) for package in PACKAGES},
        "cuda": torch.version.cuda,
        "driver": _driver() if device.type == "cuda" else None,
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _driver() -> str | None:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.check_output(command, text=True).splitlines()[0].strip()
    except (OSError, subprocess.CalledProcessError, IndexError):
        return None
