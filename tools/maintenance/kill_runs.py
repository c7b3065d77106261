"""Kill a run and resume it until it is done.

python -m tools.maintenance.kill_runs [--kills 20] [--recipe FILE] [--work FOLDER]

A recipe is trained twice: once unbroken, and once in processes that get SIGKILL at random moments of the run, its start
and its end included. Each process resumes the run of the one before. The results must be equal: metrics.csv without the
columns of time and memory, modulator.csv, and the hash of the bundle.

The default recipe is a small one on simulated ships with every kind of state: both loops, dropout, accumulation, early
stopping, and a checkpoint every second step. Processes are forked from a server that has imported the package. Moments
are counted in CPU time, so that the load of the machine does not matter. Linux only.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from rich.table import Table

from rsft.cli.display.console import console
from rsft.data.prepare.demo import prepare_demo
from rsft.recipe.load import load_recipe
from rsft.training.finetune import finetune
from rsft.training.recorder import RunListener
from rsft.training.runs.reader import TIMING_COLUMNS, find_runs
from rsft.training.runs.writer import Run
from rsft.utils.atomic_files import write_text

RECIPE = """\
# Ships, small, with every kind of state
# python -m tools.maintenance.kill_runs
data: {root: ROOT, size: 32, crop: 96, augment: sar}
peft: {rank: 4, dropout: 0.2}
meta: {outer_every: 2, lr: 0.05, warmup: 0.5}
train: {epochs: 8, batch_size: 8, lr: 0.1, max_grad_norm: 1.0, accumulate_grad_batches: 3,
        patience: 8, checkpoint_steps: 2}
evaluate: {every: 2}
"""

_CHIPS = {
    "train": {"cargo": 40, "fishing": 20, "tanker": 8, "dredger": 6},
    "val": dict.fromkeys(("cargo", "fishing", "tanker", "dredger"), 6),
    "test": dict.fromkeys(("cargo", "fishing", "tanker", "dredger"), 6),
}
_CLOCK = "clock.json"
_PRELOADED = ["rsft.cli.display.console", "rsft.data.prepare.demo", "rsft.training.finetune"]
"""Modules that the server imports once. This module is none of them, because it may be __main__."""
_SPREAD = 2  # kills are spread over this multiple of the training time, so that most of twenty hit it


@dataclass(frozen=True)
class KillReport:
    """The comparison of a killed and an unbroken run.

    Attributes:
        kills: number of processes that were killed; fewer than requested if the run was done before.
        progress: how far the run was after each kill.
        equal: whether both runs are equal, by name of the comparison.
        seconds: CPU time of the unbroken run.
    """

    kills: int
    progress: list[str]
    equal: dict[str, bool]
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether everything is equal."""
        return all(self.equal.values())


def kill_and_compare(recipe: Path, work: Path, kills: int, seed: int = 0) -> KillReport:
    """Train a recipe unbroken in `work`/unbroken, and killed and resumed in `work`/killed.

    Args:
        recipe: to train.
        work: an empty folder.
        kills: number of processes to kill.
        seed: of the moments.

    Returns:
        The comparison.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    _start(context, _do_nothing).join()  # from now on the server has imported everything
    _join(_start(context, _train, recipe, work / "unbroken"))
    start, total = json.loads((work / "unbroken" / _CLOCK).read_text())

    rng, progress = random.Random(seed), []
    for _ in range(kills):
        process = _start(context, _train, recipe, work / "killed")
        if not _kill_after(process, rng.uniform(0, start + _SPREAD * (total - start) / max(kills, 4))):
            break
        progress.append(_describe_progress(work / "killed"))
    _join(_start(context, _train, recipe, work / "killed"))
    return KillReport(len(progress), progress, compare_results(work), total)


def compare_results(work: Path) -> dict[str, bool]:
    """Compare the results of both runs.

    Args:
        work: with the folders "unbroken" and "killed".

    Returns:
        Whether they are equal, by name of the comparison.
    """
    first, second = (find_runs(work / name)[-1] for name in ("unbroken", "killed"))

    def read_table(folder: Path, name: str) -> str:
        table = pd.read_csv(folder / name, dtype=str, keep_default_na=False) if (folder / name).exists() else None
        return "" if table is None else str(table.drop(columns=list(TIMING_COLUMNS), errors="ignore").to_csv())

    tables = ("metrics.csv", "modulator.csv")
    return {
        "one run": sum(run.status != "broken" for run in find_runs(work / "killed")) == 1,
        "both are done": first.status == second.status == "done",
        **{name: read_table(first.folder, name) == read_table(second.folder, name) for name in tables},
        "bundle": first.metadata.get("bundle_sha256") == second.metadata.get("bundle_sha256", "none"),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the comparison; return 1 if anything differs.

    Args:
        arguments: of the command line; None takes those of this process.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="number of processes to kill")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments")
    parser.add_argument("--recipe", type=Path, help="another recipe, with prepared data")
    parser.add_argument("--work", type=Path, help="an empty folder that is kept; by default a temporary one")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        work = options.work or Path(temporary)
        report = kill_and_compare(options.recipe or _small_recipe(work), work, options.kills, options.seed)
    _print(report)
    return 0 if report.passed else 1


def _small_recipe(work: Path) -> Path:
    prepare_demo(work / "demo", counts=_CHIPS, scenes=4, jobs=1)
    recipe = work / "ships.yaml"
    recipe.write_text(RECIPE.replace("ROOT", str(work / "demo")))
    return recipe


def _print(report: KillReport) -> None:
    table = Table("kill", "progress of the run", box=None, pad_edge=False)
    for number, progress in enumerate(report.progress, start=1):
        table.add_row(str(number), progress)
    console.print(table)
    console.print(f"{report.kills} kills of a run that takes {report.seconds:.1f} s of CPU time")
    for name, equal in report.equal.items():
        console.print(f"{'equal' if equal else '[red]differs[/red]'}  {name}")


def _do_nothing() -> None:
    """Return: the server has imported this module by now."""


def _train(recipe: Path, runs: Path) -> None:
    """Start a run, or resume the one in `runs`."""
    torch.set_num_threads(1)
    clock = _StartClock()
    existing = [run for run in find_runs(runs) if run.status != "broken"]
    if existing and existing[-1].status == "done":
        return
    finetune(load_recipe(recipe), runs, clock, resume=existing[-1].folder if existing else None)
    write_text(runs / _CLOCK, json.dumps([clock.seconds, time.process_time()]))


class _StartClock(RunListener):
    """Measures the CPU time before training."""

    seconds = 0.0

    def on_start(self, run: Run, metadata: dict[str, Any]) -> None:
        """Record the CPU time so far."""
        self.seconds = time.process_time()


def _start(context: ForkServerContext, target: Callable[..., Any], *arguments: Any) -> Any:
    process = context.Process(target=target, args=arguments)
    process.start()
    return process


def _join(process: Any) -> None:
    process.join()
    if process.exitcode:
        raise RuntimeError(f"a process that was not killed ended with {process.exitcode}")


def _kill_after(process: Any, seconds: float) -> bool:
    """Send SIGKILL after an amount of CPU time; return False if the process ended before."""
    ticks = os.sysconf("SC_CLK_TCK") * seconds
    while process.is_alive():
        with suppress(OSError):  # the process has ended
            fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
            if int(fields[11]) + int(fields[12]) >= ticks:
                process.kill()
                process.join()
                return True
        time.sleep(0.002)
    _join(process)
    return False


def _describe_progress(runs: Path) -> str:
    run = next(iter(reversed(find_runs(runs))), None)
    if run is None:
        return "no run folder yet"
    position = run.metadata.get("position")
    saved = f"saved after {position[0]} epochs and {position[1]} batches" if position else "nothing saved yet"
    return f"{run.status}, {saved}" + (", bundle written" if (run.folder / "bundle").exists() else "")


if __name__ == "__main__":
    sys.exit(main())
