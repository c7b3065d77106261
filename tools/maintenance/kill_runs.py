"""Kill a run and resume it, until it is done.

python -m tools.maintenance.kill_runs [--kills 20] [--recipe FILE] [--work FOLDER]

A recipe is trained twice: once unbroken, and once in processes that get SIGKILL at moments drawn at random over the
run, its start and its end included. Each process goes on where the one before was killed. What is left must be equal:
the rows of metrics.csv without the columns of time and memory, modulator.csv, and the hash of the bundle.

Without a recipe it is a small one with all that moves on simulated ships: both loops, dropout, accumulation, early
stopping, and a checkpoint every second step. A new process costs a fork, not the imports: a server has them. Moments
are counted in the processor's time, of which a busy machine takes nothing away. Linux only.
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
from rsft.training.callbacks.recorder import RunListener
from rsft.training.finetune import finetune
from rsft.training.runs.reader import TIMING_COLUMNS, find_runs
from rsft.training.runs.writer import Run
from rsft.utils.atomic_files import write_text

RECIPE = """\
# Ships, small, with all that moves
# python -m tools.maintenance.kill_runs
data: {root: ROOT, size: 32, crop: 96, augment: sar}
peft: {rank: 4, dropout: 0.2}
meta: {outer_every: 2, lr: 0.05, warmup: 0.5}
train: {epochs: 8, batch_size: 8, lr: 0.1, max_grad_norm: 1.0, accumulate_grad_batches: 3, patience: 8, checkpoint_steps: 2}
evaluate: {every: 2}
"""

_CHIPS = {
    "train": {"cargo": 40, "fishing": 20, "tanker": 8, "dredger": 6},
    "val": dict.fromkeys(("cargo", "fishing", "tanker", "dredger"), 6),
    "test": dict.fromkeys(("cargo", "fishing", "tanker", "dredger"), 6),
}
_CLOCK = "clock.json"
_SPREAD = 2  # shares of the run beyond its start that lie between two kills at most: most of twenty find it training


@dataclass(frozen=True)
class Verdict:
    """What came of it.

    Attributes:
        kills: processes that were killed; fewer than asked for where the run was done before.
        moments: where the run stood after each of them.
        equal: by what was compared.
        seconds: of the processor, of the unbroken run.
    """

    kills: int
    moments: list[str]
    equal: dict[str, bool]
    seconds: float

    @property
    def holds(self) -> bool:
        """Whether everything is equal."""
        return all(self.equal.values())


def trial(recipe: Path, work: Path, kills: int, seed: int = 0) -> Verdict:
    """Train `recipe` unbroken and killed, in `work`/unbroken and `work`/killed."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tools.maintenance.kill_runs"])  # by its name: this may be __main__
    _process(context, _imports).join()  # the server has them from now on
    _finish(_process(context, _train, recipe, work / "unbroken"))
    start, whole = json.loads((work / "unbroken" / _CLOCK).read_text())

    draw, moments = random.Random(seed), []
    for _ in range(kills):
        process = _process(context, _train, recipe, work / "killed")
        if not _kill(process, draw.uniform(0, start + _SPREAD * (whole - start) / max(kills, 4))):
            break
        moments.append(_moment(work / "killed"))
    _finish(_process(context, _train, recipe, work / "killed"))
    return Verdict(len(moments), moments, compare(work), whole)


def compare(work: Path) -> dict[str, bool]:
    """What two runs left, by name of what was compared."""
    first, second = (find_runs(work / name)[-1] for name in ("unbroken", "killed"))

    def rows(folder: Path, name: str) -> str:
        table = pd.read_csv(folder / name, dtype=str, keep_default_na=False) if (folder / name).exists() else None
        return "" if table is None else str(table.drop(columns=list(TIMING_COLUMNS), errors="ignore").to_csv())

    return {
        "one run": sum(run.status != "broken" for run in find_runs(work / "killed")) == 1,
        "both are done": first.status == second.status == "done",
        **{name: rows(first.folder, name) == rows(second.folder, name) for name in ("metrics.csv", "modulator.csv")},
        "bundle": first.metadata.get("bundle_sha256") == second.metadata.get("bundle_sha256", "none"),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the verdict; 1 where anything differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--recipe", type=Path, help="another recipe, whose data are prepared")
    parser.add_argument("--work", type=Path, help="an empty folder that stays; a temporary one if left out")
    wishes = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        work = wishes.work or Path(temporary)
        verdict = trial(wishes.recipe or _small(work), work, wishes.kills, wishes.seed)
    _show(verdict)
    return 0 if verdict.holds else 1


def _small(work: Path) -> Path:
    prepare_demo(work / "demo", counts=_CHIPS, scenes=4, jobs=1)
    recipe = work / "ships.yaml"
    recipe.write_text(RECIPE.replace("ROOT", str(work / "demo")))
    return recipe


def _show(verdict: Verdict) -> None:
    table = Table("kill", "the run stood at", box=None, pad_edge=False)
    for number, moment in enumerate(verdict.moments, start=1):
        table.add_row(str(number), moment)
    console.print(table)
    console.print(f"{verdict.kills} kills of a run that takes the processor {verdict.seconds:.1f} s")
    for name, equal in verdict.equal.items():
        console.print(f"{'equal' if equal else '[red]differs[/red]'}  {name}")


def _imports() -> None:
    """Nothing: the server has imported this module by now."""


def _train(recipe: Path, runs: Path) -> None:
    """Begin the run, or go on with the one that is there."""
    torch.set_num_threads(1)
    clock = _Clock()
    found = [run for run in find_runs(runs) if run.status != "broken"]
    if found and found[-1].status == "done":
        return
    finetune(load_recipe(recipe), runs, clock, resume=found[-1].folder if found else None)
    write_text(runs / _CLOCK, json.dumps([clock.start, time.process_time()]))


class _Clock(RunListener):
    """The processor's seconds before training."""

    start = 0.0

    def on_start(self, run: Run, facts: dict[str, Any]) -> None:
        """Note them."""
        self.start = time.process_time()


def _process(context: ForkServerContext, target: Callable[..., Any], *arguments: Any) -> Any:
    process = context.Process(target=target, args=arguments)
    process.start()
    return process


def _finish(process: Any) -> None:
    process.join()
    if process.exitcode:
        raise RuntimeError(f"the process that was left alone ended with {process.exitcode}")


def _kill(process: Any, seconds: float) -> bool:
    """Send SIGKILL once the process has had so many seconds of the processor; False where it ended before."""
    ticks = os.sysconf("SC_CLK_TCK") * seconds
    while process.is_alive():
        with suppress(OSError):  # it is gone
            fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
            if int(fields[11]) + int(fields[12]) >= ticks:
                process.kill()
                process.join()
                return True
        time.sleep(0.002)
    _finish(process)
    return False


def _moment(runs: Path) -> str:
    found = find_runs(runs)
    if not found:
        return "nothing is there yet"
    position = found[-1].metadata.get("position")
    saved = f"saved after {position[0]} epochs and {position[1]} batches" if position else "nothing saved yet"
    return f"{found[-1].status}, {saved}" + (", bundle written" if (found[-1].folder / "bundle").exists() else "")


if __name__ == "__main__":
    sys.exit(main())
