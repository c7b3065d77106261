"""Compare a sweep of small trials with the same runs one after another in one process.

    python -m tools.benchmarks.sweep --trials 12 --jobs 2

Prints the wall-clock time, the CPU time of all processes, and both
until the first run starts to train. A sweep runs several trials at the same time, so
compare CPU times on a busy machine. It reads /proc (Linux).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table

from tools.errors import explained_errors

MARK = "RSFT_BENCHMARK"
"""Environment variable by which the processes of a measurement are found."""

SWEEP = """\
recipe: {recipe}
grid:
  peft.rank: {ranks}
  train.lr: [0.02, 0.05, 0.1]
"""
RECIPE = """\
data: {{root: {root}, size: 32, augment: sar}}
train: {{epochs: {epochs}, batch_size: 8}}
evaluate: {{batch_size: 32}}
track: {{to: []}}
"""
PLAIN = """\
import sys
from pathlib import Path
import torch
from rsft.evaluation.evaluate import evaluate
from rsft.plugins.sweeps.sweep_file import read_sweep
from rsft.plugins.sweeps.trial_list import list_trials
from rsft.training.finetune import finetune
torch.set_num_threads(1)
for trial in list_trials(*read_sweep(Path(sys.argv[1]))):
    run = finetune(trial.recipe, Path(sys.argv[2]))
    root = Path(trial.recipe.data.root)
    evaluate(run.bundle_dir, root, run.folder / "evaluation", baselines=False)
"""


def main() -> None:
    """Measure both, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--trials",
        type=int,
        default=12,
        help="number of trials, a multiple of 3 (%(default)s)",
    )
    parser.add_argument(
        "--epochs", type=int, default=2, help="epochs of a trial (%(default)s)"
    )
    parser.add_argument(
        "--jobs", type=int, default=2, help="parallel trials of the sweep (%(default)s)"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        sweep = write_sweep(folder, options.trials, options.epochs)
        plain = measure([sys.executable, "-c", PLAIN, str(sweep), "plain"], folder)
        command = [
            sys.executable,
            "-m",
            "rsft",
            "sweep",
            str(sweep),
            "--runs",
            "swept",
            "--jobs",
            str(options.jobs),
        ]
        swept = measure(command, folder)
        runs = [
            len(list((folder / name).rglob("evaluation/metrics.json")))
            for name in ("plain", "swept")
        ]
    if runs != [options.trials] * 2:
        sys.exit(
            f"error: expected {options.trials} runs, found {runs[0]} plain runs and"
            f" {runs[1]} runs of the sweep"
        )
    table = Table("seconds", "plain runs", f"sweep, {options.jobs} at a time", "ratio")
    names = (
        "wall clock",
        "CPU",
        "wall clock until the first run trains",
        "CPU until the first run trains",
    )
    for name, before, after in zip(names, plain, swept, strict=True):
        table.add_row(name, f"{before:.1f}", f"{after:.1f}", f"{after / before:.2f}")
    Console().print(table)


def write_sweep(folder: Path, trials: int, epochs: int) -> Path:
    """Write speckled chips of two classes, a recipe and a sweep.

    Args:
        folder: folder of all files.
        trials: number of trials.
        epochs: epochs of a trial.

    Returns:
        The sweep file.
    """
    from rsft.data.prepare.image_folder import prepare_folder

    rng = np.random.default_rng(0)
    for index in range(60):
        path = (
            folder
            / "images"
            / ("train" if index < 40 else "val")
            / "ab"[index % 2]
            / f"{index}.png"
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        image = rng.gamma(2, 15, (32, 32))
        cv2.line(image, (4, 16 * (index % 2)), (28, 16), 255, 3)
        cv2.imwrite(str(path), np.clip(image, 0, 255).astype(np.uint8))
    root = prepare_folder(folder / "images", folder / "chips").root
    (folder / "small.yaml").write_text(RECIPE.format(root=root, epochs=epochs))
    path = folder / "twelve.yaml"
    path.write_text(
        SWEEP.format(
            recipe=folder / "small.yaml", ranks=list(range(1, trials // 3 + 1))
        )
    )
    return path


def measure(command: list[str], folder: Path) -> tuple[float, float, float, float]:
    """Run a command, and measure all processes that it starts.

    Args:
        command: the command.
        folder: its working directory.

    Returns:
        Wall-clock seconds, CPU seconds, and both until a run folder of the command
        appears.
    """
    mark = f"{os.getpid()}.{time.time()}"
    earlier = set(folder.rglob("run.json"))
    began = time.monotonic()
    start = 0.0
    start_cpu = 0.0
    cpu = dict[tuple[int, int], float]()
    with subprocess.Popen(
        command, cwd=folder, env=os.environ | {MARK: mark}, stdout=subprocess.DEVNULL
    ) as process:
        while process.poll() is None:
            cpu |= cpu_seconds(mark)
            with suppress(FileNotFoundError):  # a temporary folder of a run
                if not start and set(folder.rglob("run.json")) - earlier:
                    start = time.monotonic() - began
                    start_cpu = sum(cpu.values())
            time.sleep(0.1)
    if process.returncode:
        sys.exit(f"error: {' '.join(command)} ended with code {process.returncode}")
    return time.monotonic() - began, sum(cpu.values()), start, start_cpu


def cpu_seconds(mark: str) -> dict[tuple[int, int], float]:
    """Return the CPU seconds of all processes with a mark, by number and start of the process.

    Args:
        mark: value of `MARK` in their environment.

    Returns:
        CPU seconds of each process itself, without its children.
    """
    seconds = {}
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # the process has ended, or belongs to another user
            if f"{MARK}={mark}".encode() in (path / "environ").read_bytes().split(
                b"\0"
            ):
                fields = (path / "stat").read_text().rpartition(")")[2].split()
                # proc(5), after the name
                user, system, start = (int(fields[index]) for index in (11, 12, 19))
                seconds[int(path.name), start] = (user + system) / os.sysconf(
                    "SC_CLK_TCK"
                )
    return seconds


if __name__ == "__main__":
    with explained_errors():
        main()
