"""Measure how time and memory of the main jobs grow with the number of chips, and print a table in Markdown.

python -m tools.benchmarks.growth [--counts 2000,20000,200000] [--out DIR]

The chips are random PNG files of 24 x 24 pixels and two classes. Every job runs in a
process of its own with one thread: prepare (the store), audit, one epoch of `finetune`
with the embedded network, predict, and evaluate with all baselines but the small
network, whose training ends by time. The table contains the seconds of processor time
of the process and its children, and the peak memory of its largest process. "ms per
chip" is the growth from the row before: additional time by additional chips, so that
the start of a job does not count. With linear time it is the same in each row. The
files are removed at the end, unless OUT is given.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import cv2
import numpy as np
import typer

from tools.errors import explained_errors

SIDE = 24
FILES_PER_FOLDER = 1000
"""Chips of a class folder, so that no folder has hundreds of thousands of files."""

PLAIN = ("train.optimizer=sgd", "head.earlier_blocks=[]", "evaluate.tta=none")
PLAIN_META = ("meta.holdout=true", "meta.scale_invariant_steps=false", "meta.warmup=0")
"""Overrides of the recipe `quickstart` for the settings with which the figures in docs/
were measured."""

JOBS: Mapping[str, Sequence[str]] = {
    "prepare": ("prepare", "folder", "images", "--root", "store"),
    "audit": ("audit", "store"),
    "finetune, one epoch": (
        "finetune",
        "quickstart",
        "data.root=store",
        "data.size=24",
        "train.epochs=1",
        *PLAIN,
        *PLAIN_META,
        "meta.outer_every=2",
        "evaluate.every=100",
        "evaluate.baselines=0",
        "--no-report",
        "--runs",
        "runs",
    ),
    "predict": (
        "predict",
        "runs/quickstart",
        "images",
        "-o",
        "predictions.parquet",
        "--engine",
        "torch",
    ),
    "evaluate, with baselines": (
        "evaluate",
        "runs/quickstart",
        "store",
        "-o",
        "evaluation",
    ),
}
"""Arguments of rsft by job. A job needs the outputs of those before it."""


class Cost(NamedTuple):
    """What a job needs: seconds of processor time, and the peak memory of its largest process in MB."""

    seconds: float
    peak: float


def main(
    counts: Annotated[
        str, typer.Option(help="Numbers of chips, separated by commas.")
    ] = "2000,20000,200000",
    out: Annotated[Path | None, typer.Option(help="Keep the files there.")] = None,
) -> None:
    """Measure all jobs and print the table."""
    numbers = [int(count) for count in counts.split(",")]
    measured: dict[str, list[Cost]] = {job: [] for job in JOBS}
    with tempfile.TemporaryDirectory() as folder:
        for count in numbers:
            root = (out or Path(folder)) / str(count)
            write_chips(root / "images", count)
            for job, arguments in JOBS.items():
                measured[job].append(run_job(root, arguments))
                print(
                    f"{count} chips, {job}: {measured[job][-1]}",
                    file=sys.stderr,
                    flush=True,
                )
            if out is None:
                shutil.rmtree(root)
    print(table(numbers, measured))


def write_chips(folder: Path, count: int, side: int = SIDE) -> None:
    """Write random chips of two classes.

    Args:
        folder: folder of the class folders.
        count: number of chips.
        side: side of a chip in pixels.
    """
    rng = np.random.default_rng(0)
    for index in range(count):
        label = "ab"[index % 2]
        path = folder / label / str(index // FILES_PER_FOLDER) / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image = rng.integers(0, 100, (side, side), np.uint8)
        image[8:16, 4 : 12 + 8 * (index % 2)] += 100
        cv2.imwrite(str(path), image)


def run_job(folder: Path, arguments: Sequence[str], threads: int = 1) -> Cost:
    """Run a job in a new process.

    Args:
        folder: the working directory.
        arguments: arguments of rsft.
        threads: CPU threads of torch.

    Returns:
        Its cost.

    Raises:
        RuntimeError: the job failed.
    """
    environment = os.environ | {
        "OMP_NUM_THREADS": str(threads),
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    log = folder / "log.txt"
    with log.open("w") as file:
        command = [sys.executable, "-m", "rsft", *arguments]
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=file, stderr=file
        )
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)}: {log.read_text()[-2000:]}")
    return Cost(usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def table(numbers: Sequence[int], measured: Mapping[str, Sequence[Cost]]) -> str:
    """Return the table in Markdown.

    Args:
        numbers: numbers of chips, in ascending order.
        measured: job -> its cost for each number of chips.
    """
    lines = [
        "| job | chips | CPU s | ms per chip | peak, MB |",
        "|---|---:|---:|---:|---:|",
    ]
    for job, costs in measured.items():
        chips_before = 0
        seconds_before = 0.0
        for chips, cost in zip(numbers, costs, strict=True):
            per_chip = 1e3 * (cost.seconds - seconds_before) / (chips - chips_before)
            lines.append(
                f"| {job} | {chips:,} | {cost.seconds:.1f} | {per_chip:.2f} |"
                f" {cost.peak:,.0f} |"
            )
            chips_before = chips
            seconds_before = cost.seconds
    return "\n".join(lines)


if __name__ == "__main__":
    with explained_errors():
        typer.run(main)
