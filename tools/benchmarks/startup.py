"""Time how long commands of rsft take from their start to their first useful output, and print a table in Markdown.

python -m tools.benchmarks.startup [--rounds 5] [--jobs "backbones ls,predict"]
[--before FOLDER]

Every job runs in a new process. `finetune` is stopped after its first step; the other
jobs run to their end. Inputs are made before: 100 PNG chips of two classes, their chip
store, and a bundle with the embedded network. A first run of each job, which fills the
file cache, does not count. `--before` is another checkout of the repository, such as
one of `git worktree add`. Both checkouts take turns (A B A B), so that a slow moment of
the machine affects both.

The table contains the median of the seconds on the clock, and in parentheses that of
the seconds of processor time, which depends less on other processes of the machine. The
last column names the packages whose modules take longest to import, by `python -X
importtime` in one more run.
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, NamedTuple

import cv2
import numpy as np
import typer

from tools.errors import explained_errors

CHIPS = 100
PREDICTED = 12
SIDE = 96
"""Chips of the store, chips that `predict` classifies, and their side in pixels."""

PACKAGES_SHOWN = 3
FIRST_STEP = '{"event": "step"'
"""Begin of the line that `finetune --json` prints after a step."""

_IMPORT = re.compile(r"import time:\s*(\d+) \|\s*\d+ \|\s*(\S+)")


class Job(NamedTuple):
    """A command, and when it has given its first useful output.

    Attributes:
        arguments: arguments of rsft; OUT stands for a name that is new in each run.
        target: seconds that it should take on two free cores; None for no target.
        stop_at: begin of the printed line after which the process is killed; "" waits
            for its end.
    """

    arguments: tuple[str, ...]
    target: float | None = None
    stop_at: str = ""


JOBS = {
    "--help": Job(("--help",)),
    "backbones ls": Job(("backbones", "ls"), 0.6),
    "recipes ls": Job(("recipes", "ls"), 0.6),
    "runs ls": Job(("runs", "ls"), 0.6),
    "data show": Job(("data", "show", "store")),
    "bundle show": Job(("bundle", "show", "runs/quickstart")),
    "doctor": Job(("doctor",)),
    "prepare folder, 100 chips": Job(
        ("prepare", "folder", "images", "--root", "OUT"), 2
    ),
    "predict, 12 chips": Job(
        ("predict", "runs/quickstart", "few", "-o", "OUT.gpkg", "--engine", "torch"), 4
    ),
    "finetune, first step": Job(
        (
            "finetune",
            "quickstart",
            "data.root=store",
            "--runs",
            "OUT",
            "--json",
        ),
        6,
        FIRST_STEP,
    ),
}

Seconds = tuple[float, float]
"""Seconds on the clock, and seconds of processor time."""


def main(
    rounds: Annotated[int, typer.Option(help="Runs of each job in each checkout.")] = 5,
    jobs: Annotated[
        str,
        typer.Option(help="Jobs, or the begin of their names, separated by commas."),
    ] = "",
    before: Annotated[
        Path | None, typer.Option(help="Checkout to compare with.")
    ] = None,
) -> None:
    """Measure all jobs and print the table."""
    checkouts = {"after": Path(__file__).parents[2]}
    if before is not None:
        checkouts = {"before": before.resolve(), **checkouts}
    chosen = {
        name: job
        for name, job in JOBS.items()
        if name.startswith(tuple(jobs.split(",")))
    }
    measured: dict[str, dict[str, list[Seconds]]] = {
        name: defaultdict(list) for name in chosen
    }
    imports = {}
    with tempfile.TemporaryDirectory() as folder:
        # the older one: newer versions read its files
        make_inputs(Path(folder), next(iter(checkouts.values())))
        for name, job in chosen.items():
            for number in range(rounds + 1):
                for label, checkout in checkouts.items():
                    seconds = run_job(job, checkout, Path(folder))
                    measured[name][label] += [seconds] if number else []
            imports[name] = slowest_imports(job, checkouts["after"], Path(folder))
            print(f"{name}: {imports[name]}", file=sys.stderr)
    print(
        f"medians of {rounds} runs on {os.cpu_count()} cores; load at the end"
        f" {os.getloadavg()[0]:.1f}\n"
    )
    print(table(measured, imports))


def make_inputs(folder: Path, checkout: Path) -> None:
    """Write chips, a chip store and a bundle.

    Args:
        folder: working directory of the jobs.
        checkout: the repository whose commands write them.
    """
    rng = np.random.default_rng(0)
    for index in range(CHIPS):
        image = rng.integers(0, 60, (SIDE, SIDE), np.uint8)
        image[40:56, 20 : 50 + 20 * (index % 2)] = 200
        for path in (f"images/{'ab'[index % 2]}/{index}.png", f"few/{index}.png")[
            : 2 if index < PREDICTED else 1
        ]:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(folder / path), image)
    run_job(Job(("prepare", "folder", "images", "--root", "store")), checkout, folder)
    arguments = (
        "finetune",
        "quickstart",
        "data.root=store",
        "train.epochs=1",
        "meta.warmup=0",
        "--no-report",
    )
    run_job(Job(arguments), checkout, folder)


def run_job(
    job: Job, checkout: Path, folder: Path, *options: str, errors: Path | None = None
) -> Seconds:
    """Run a job in a new process.

    Args:
        job: the job.
        checkout: the repository whose code runs.
        folder: the working directory.
        *options: options of Python.
        errors: file that receives what is printed to stderr; None shows it only if the
            job fails.

    Returns:
        Seconds on the clock and of processor time, to the end of the process or to the
        line `job.stop_at`.

    Raises:
        RuntimeError: the job failed.
    """
    errors = errors or folder / "errors.txt"
    name = f"out{time.time_ns()}"
    command = [
        sys.executable,
        *options,
        "-m",
        "rsft",
        *(text.replace("OUT", name) for text in job.arguments),
    ]
    environment = os.environ | {
        "PYTHONPATH": str(checkout),
        "PYTHONDONTWRITEBYTECODE": "",  # the first run compiles
        "XDG_CACHE_HOME": str(folder / "cache"),
    }
    start = time.perf_counter()
    with errors.open("w") as file:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=-1, stderr=file, text=True
        )
        assert process.stdout is not None
        reached = any(
            bool(job.stop_at) and line.startswith(job.stop_at)
            for line in process.stdout
        )
        duration = time.perf_counter() - start
        if reached:
            process.kill()
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if not reached:
        duration = time.perf_counter() - start
    if reached != bool(job.stop_at) or (not reached and process.returncode):
        raise RuntimeError(f"{' '.join(command)}: {errors.read_text()[-2000:]}")
    return duration, usage.ru_utime + usage.ru_stime


def slowest_imports(job: Job, checkout: Path, folder: Path) -> str:
    """Return the packages of a job that take longest to import, such as "torch 0.95, timm 0.31".

    Args:
        job: the job.
        checkout: the repository whose code runs.
        folder: the working directory.
    """
    file = folder / "importtime.txt"
    run_job(job, checkout, folder, "-X", "importtime", errors=file)
    seconds = package_seconds(file.read_text())
    names = sorted(seconds, key=lambda name: -seconds[name])[:PACKAGES_SHOWN]
    return ", ".join(f"{name} {seconds[name]:.2f}" for name in names)


def package_seconds(log: str) -> Mapping[str, float]:
    """Return the seconds that each package's modules took, without those that they import from other packages.

    Args:
        log: what `python -X importtime` prints.
    """
    seconds: dict[str, float] = defaultdict(float)
    for microseconds, module in _IMPORT.findall(log):
        seconds[module.partition(".")[0]] += int(microseconds) / 1e6
    return seconds


def table(
    measured: Mapping[str, Mapping[str, list[Seconds]]], imports: Mapping[str, str]
) -> str:
    """Return the table in Markdown.

    Args:
        measured: job -> checkout -> seconds of its runs.
        imports: job -> its largest imports.
    """
    labels = list(next(iter(measured.values())))
    lines = [
        f"| job | {', s | '.join(labels)}, s | target, s | largest imports, s |",
        f"|---|{'---:|' * len(labels)}---:|---|",
    ]
    for name, runs in measured.items():
        cells = [_medians(runs[label]) for label in labels]
        target = JOBS[name].target
        lines.append(
            f"| {name} | {' | '.join(cells)} | {'-' if target is None else target} |"
            f" {imports[name]} |"
        )
    return "\n".join(lines)


def _medians(runs: list[Seconds]) -> str:
    clock, processor = (statistics.median(column) for column in zip(*runs, strict=True))
    return f"{clock:.2f} ({processor:.2f})"


if __name__ == "__main__":
    with explained_errors():
        typer.run(main)
