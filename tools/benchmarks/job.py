"""Time the training steps of a whole job against the bare step of rsft.peft, and print a table in Markdown.

python -m tools.benchmarks.job [--rounds 3] [--chips 1024] [--threads 1] [--neighbour]

The chips are random PNG files of 64 x 64 pixels, and the network is the embedded one
with LoRA at all sites (rank 8, batch 32). The bare step is forward, cross-entropy,
backward and SGD on one batch that stays in memory. A job is `rsft finetune` with
augmentation, the loops, logging and tables; its seconds per step are those of its
epochs after the first one, which also fills the cache of chips. "alternating" is
MetaPEFT with an outer step after every third inner step. A tenth of the chips is its
meta subset, which inner steps do not use, so an epoch has fewer steps: its time is per
epoch, divided by the steps of an epoch of LoRA. Every row runs in a process of its own,
and the rows take turns. Nothing else should run on the machine.

With --neighbour, the table compares the job with LoRA on the quiet machine and beside a
process that keeps one core busy, with waiting threads that sleep (the setting of the
command line) and that spin (the setting of OpenMP).
"""

from __future__ import annotations

import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import pandas as pd
import torch
import typer
from torch import nn

from rsft.backbones import load_backbone, simship
from rsft.peft import LoRA, attach
from tools.benchmarks.growth import PLAIN, PLAIN_META, run_job, write_chips
from tools.benchmarks.peft_row import Batch, training_step
from tools.errors import explained_errors

SIDE = 64
BATCH = 32
RANK = 8
EPOCHS = 4
WARM_UP = 5
FINETUNE = (
    "finetune",
    "quickstart",
    "data.root=store",
    f"data.size={SIDE}",
    "data.crop=null",
    f"peft.rank={RANK}",
    f"train.batch_size={BATCH}",
    f"train.epochs={EPOCHS}",
    "evaluate.every=100",
    "--no-report",
    *PLAIN,
)
_META = ("meta.ratio=0.1", *PLAIN_META)
JOBS: Mapping[str, Sequence[str]] = {
    "job, LoRA": ("meta=null",),
    "job, MetaLoRA, alternating": ("meta.outer_every=3", *_META),
    "job, MetaLoRA, alternating, outer batch 16": (
        "meta.outer_every=3",
        f"meta.batch_size={BATCH // 2}",
        *_META,
    ),
    "job, MetaLoRA, joint": ("meta.schedule=joint", "meta.outer_every=1", *_META),
}
"""Overrides of the recipe by row."""


class Epochs(NamedTuple):
    """Seconds of an epoch (the median of those after the first), and its inner steps."""

    seconds: float
    steps: int


def main(
    rounds: Annotated[int, typer.Option(help="Processes per row.")] = 3,
    chips: Annotated[int, typer.Option(help="Number of chips.")] = 1024,
    threads: Annotated[int, typer.Option(help="CPU threads of torch.")] = 1,
    neighbour: Annotated[
        bool, typer.Option("--neighbour", help="Time a job beside a busy process.")
    ] = False,
) -> None:
    """Time all rows and print the table."""
    measured: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_chips(folder / "images", chips, SIDE)
        run_job(folder, ("prepare", "folder", "images", "--root", "store"))
        if neighbour:
            print(neighbour_table(folder, rounds, threads))
            return
        for number in range(rounds):
            measured["bare step"].append(run_bare_steps(threads))
            epochs = [
                run_training(folder, f"{number}-{row}", overrides, threads)
                for row, overrides in JOBS.items()
            ]
            for row, epoch in zip(JOBS, epochs, strict=True):
                measured[row].append(epoch.seconds / epochs[0].steps)
            print(
                {row: round(values[-1], 4) for row, values in measured.items()},
                file=sys.stderr,
                flush=True,
            )
    print(f"batch {BATCH}, {threads} threads, median of {rounds} processes\n")
    print(table(measured))


def run_bare_steps(threads: int) -> float:
    """Time the bare step in a new process.

    Args:
        threads: CPU threads of torch.

    Returns:
        Median seconds of a step.
    """
    code = "from tools.benchmarks.job import time_bare_steps; print(time_bare_steps())"
    environment = os.environ | {
        "OMP_NUM_THREADS": str(threads),
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    return float(
        json.loads(
            subprocess.check_output([sys.executable, "-c", code], env=environment)
        )
    )


def time_bare_steps(steps: int = 40) -> float:
    """Time steps of `rsft.peft` alone, in this process.

    Args:
        steps: number of timed steps.

    Returns:
        Median seconds of a step.
    """
    torch.manual_seed(0)
    adapted = attach(
        load_backbone(simship.NAME, SIDE).vit, LoRA(rank=RANK, positions="qkvo12")
    )
    head = nn.Linear(simship.ARCHITECTURE["embed_dim"], 2)
    batch = Batch(torch.randn(BATCH, 3, SIDE, SIDE), torch.randint(2, (BATCH,)))
    step = training_step(
        lambda images: head(adapted(images)),
        [*adapted.theta, *head.parameters()],
        batch,
    )
    seconds = []
    for _ in range(WARM_UP + steps):
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[WARM_UP:])


def run_training(
    folder: Path, runs: str, overrides: Sequence[str], threads: int
) -> Epochs:
    """Fine-tune in a new process.

    Args:
        folder: the working directory, with the chip store.
        runs: folder for the run.
        overrides: overrides of the recipe.
        threads: CPU threads of torch.

    Returns:
        Its epochs.
    """
    run_job(folder, (*FINETUNE, *overrides, "--runs", runs), threads)
    (path,) = folder.glob(f"{runs}/*/*/metrics.csv")
    metrics = pd.read_csv(path)
    return Epochs(float(metrics["seconds"][1:].median()), int(metrics["step"][0]))


def neighbour_table(folder: Path, rounds: int, threads: int) -> str:
    """Return a table of the speed of LoRA beside a busy process, in Markdown.

    Args:
        folder: the working directory, with the chip store.
        rounds: processes per row.
        threads: CPU threads of torch.
    """
    measured: dict[tuple[str, bool], list[float]] = defaultdict(list)
    for number, policy, busy in itertools.product(
        range(rounds), ("passive", "active"), (False, True)
    ):
        os.environ["OMP_WAIT_POLICY"] = policy
        if busy:
            neighbour = subprocess.Popen([sys.executable, "-c", "while True: pass"])
        else:
            neighbour = None
        try:
            epoch = run_training(
                folder, f"{number}-{policy}-{busy}", JOBS["job, LoRA"], threads
            )
        finally:
            if neighbour is not None:
                neighbour.kill()
                neighbour.wait()
        measured[policy, busy].append(epoch.seconds / epoch.steps)
        print(
            policy,
            "busy" if busy else "quiet",
            round(measured[policy, busy][-1], 4),
            file=sys.stderr,
            flush=True,
        )
    lines = [
        "| waiting threads | ms per step, quiet | beside a busy process | speed kept |",
        "|---|---:|---:|---:|",
    ]
    for policy, name in (("passive", "sleep"), ("active", "spin")):
        quiet = statistics.median(measured[policy, False])
        busy_seconds = statistics.median(measured[policy, True])
        lines.append(
            f"| {name} | {1e3 * quiet:.1f} | {1e3 * busy_seconds:.1f} |"
            f" {quiet / busy_seconds:.0%} |"
        )
    return "\n".join(lines)


def table(measured: Mapping[str, Sequence[float]]) -> str:
    """Return the table in Markdown.

    Args:
        measured: row -> seconds of a step in every process. The first row is the bare
            step, the second LoRA.
    """
    seconds = {row: statistics.median(values) for row, values in measured.items()}
    bare, lora = list(seconds)[:2]
    lines = ["| | ms per step | to the bare step | to LoRA |", "|---|---:|---:|---:|"]
    for row, value in seconds.items():
        to_lora = f"{value / seconds[lora]:.2f}" if row != bare else ""
        lines.append(
            f"| {row} | {1e3 * value:.1f} | {value / seconds[bare]:.2f} | {to_lora} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    with explained_errors():
        typer.run(main)
