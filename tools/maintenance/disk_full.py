"""Run the jobs of rsft on disks that are too small, and then on larger ones.

python -m tools.maintenance.disk_full [--jobs prepare finetune ...] [--shares 0.05 0.25
...] [--work FOLDER]

Every job runs once on a disk with room. Then it runs on disks of several shares of what
it wrote. It must end with one sentence and exit code 1, without a traceback and without
a visible file that differs from the complete one. After the disk has been enlarged, the
same command must succeed with the same files. The result is a Markdown table.

Disks are of the type tmpfs, which only root may mount. Linux only.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SHARES = (0.05, 0.25, 0.5, 0.75, 0.95)
"""Sizes of the disks, as shares of the bytes that a job wrote on a large disk."""

RECIPE = """\
# Ships, small
# python -m tools.maintenance.disk_full
data: {root: ROOT, size: 32, crop: 96, augment: sar}
peft: {rank: 4}
train: {epochs: 2, batch_size: 8, checkpoint_steps: 2}
"""
_CLASSES = ("cargo", "fishing", "tanker", "dredger")
_CHIPS = {
    "train": dict.fromkeys(_CLASSES, 8),
    "val": dict.fromkeys(_CLASSES, 4),
    "test": dict.fromkeys(_CLASSES, 6),
}
_LARGE = 512 << 20
_SMALLEST = 16 << 10
# of finetune: folders of runs say themselves whether they are finished
_TABLE_OF_RUNS = "runs"


@dataclass(frozen=True)
class DiskResult:
    """What a job did on one small disk, and after the disk was enlarged.

    Attributes:
        job: name of the job.
        size: bytes of the disk.
        code: exit code on the small disk.
        sentence: the error that was shown.
        damaged: visible files that differ from the complete ones.
        again: exit code of the same command after the disk was enlarged.
        equal: whether the files are then those of a job with room.
    """

    job: str
    size: int
    code: int
    sentence: str
    damaged: list[str]
    again: int
    equal: bool

    @property
    def passed(self) -> bool:
        """Whether the job failed in words, or had room, and ended well afterwards."""
        in_words = self.code == 0 or (
            self.code == 1 and self.sentence.startswith("error:")
        )
        return in_words and not self.damaged and self.again == 0 and self.equal

    def row(self) -> str:
        """Return the row of the Markdown table."""
        cells = (
            self.job,
            f"{self.size >> 10:,} KiB",
            str(self.code),
            self.sentence.replace("|", "/") or "-",
            ", ".join(self.damaged) or "none",
            f"{self.again}, {'equal' if self.equal else 'NOT EQUAL'}",
        )
        return f"| {' | '.join(cells)} |"


def make_inputs(work: Path) -> dict[str, list[str]]:
    """Make a chip store, a scene, a trained bundle and a killed run in `work`.

    Returns:
        Arguments of every job; {disk} stands for the folder of the outputs.
    """
    from rsft.plugins.demo.prepare import prepare_demo, prepare_demo_scene
    from rsft.recipe.load import load_recipe
    from rsft.training.finetune import finetune

    store = prepare_demo(work / "data", jobs=1, counts=_CHIPS, scenes=4).root
    prepare_demo_scene(work / "scene")
    recipe = work / "small.yaml"
    recipe.write_text(RECIPE.replace("ROOT", str(store)), "utf-8")
    _kill_finetune(recipe, work / "disk of finetune --resume/runs")
    run = str(finetune(load_recipe(recipe), work / "runs").folder)
    predict = [
        "predict",
        run,
        str(store / "chips/test"),
        "--engine",
        "torch",
        "--batch-size",
        "2",
    ]
    scene = [
        str(work / "scene/scene.tif"),
        "--at",
        str(work / "scene/ships.gpkg"),
        "--chips",
        "{disk}/cut",
    ]
    return {
        "prepare": [
            "prepare",
            "folder",
            str(store / "chips"),
            "--root",
            "{disk}/store",
        ],
        "finetune": ["finetune", str(recipe), "--runs", "{disk}/runs", "--no-report"],
        "finetune --resume": [
            "finetune",
            str(recipe),
            "--runs",
            "{disk}/runs",
            "--no-report",
            "--resume",
        ],
        "predict gpkg": [*predict, "-o", "{disk}/out.gpkg"],
        "predict html": [
            *predict,
            "-o",
            "{disk}/out.csv",
            "--html",
            "{disk}/page.html",
        ],
        "predict chips": [
            "predict",
            run,
            *scene,
            "-o",
            "{disk}/out.gpkg",
            "--engine",
            "torch",
            "--batch-size",
            "2",
        ],
        "export": ["export", run, "--format", "torch-export", "-o", "{disk}/graph"],
    }


def _kill_finetune(recipe: Path, runs: Path) -> None:
    """Train in another process until there is a checkpoint, and kill it."""
    command = [
        sys.executable,
        "-m",
        "rsft",
        "finetune",
        str(recipe),
        "--runs",
        str(runs),
        "--no-report",
    ]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        while process.poll() is None and not any(runs.rglob("*.ckpt")):
            time.sleep(0.01)
        process.kill()
    if not any(runs.rglob("*.ckpt")) or any(runs.rglob("bundle.json")):
        raise RuntimeError("the run ended before it was killed")


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[None]:
    """Mount a disk of some bytes at `folder` while the block runs."""
    folder.mkdir(exist_ok=True)
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=True
    )
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def run_command(arguments: Sequence[str], log: Path) -> tuple[int, str]:
    """Run a command of rsft in a fork of this process.

    Args:
        arguments: its arguments.
        log: file that receives everything that it prints.

    Returns:
        Exit code, and the sentence of its error: "error: ..." on one line, or the last
            line of a traceback.
    """
    child = os.fork()
    if child == 0:
        code = 1
        try:
            with log.open("w") as file:
                os.dup2(file.fileno(), 1)
                os.dup2(file.fileno(), 2)
                sys.stdout = sys.stderr = file
                code = _main(arguments)
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    lines = log.read_text("utf-8", "replace").splitlines()
    if any(line.startswith("Traceback") for line in lines):
        return code, f"TRACEBACK {lines[-1]}"
    shown = [line for line in lines if line.startswith(("error:", "hint:"))]
    return code, "; ".join(shown)


def _main(arguments: Sequence[str]) -> int:
    from rsft.cli import main

    sys.argv = ["rsft", *arguments]
    try:
        main()
    except SystemExit as stop:
        if isinstance(stop.code, int):
            return stop.code
        return int(stop.code is not None)
    except BaseException:
        traceback.print_exc()
        return 99
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


def visible_files(folder: Path) -> dict[str, int]:
    """Return the sizes of the files that are no work files of rsft, by path.

    Folders of runs count as a whole.
    """
    sizes = {}
    for path in folder.rglob("*"):
        relative = path.relative_to(folder)
        is_work = (
            any(part.startswith(".") for part in relative.parts)
            or relative.parts[0] == _TABLE_OF_RUNS
        )
        if path.is_file() and (not is_work or path.match("*/bundle/*")):
            sizes[str(relative)] = path.stat().st_size
    return sizes


def try_job(
    name: str, arguments: Sequence[str], work: Path, shares: Sequence[float]
) -> list[DiskResult]:
    """Run a job on a large disk, on small disks, and on these disks again after they were enlarged.

    Args:
        name: name of the job.
        arguments: its arguments, see `make_inputs`.
        work: folder for the disk and the log.
        shares: sizes of the disks.

    Returns:
        One result per size.

    Raises:
        RuntimeError: the job fails on a large disk.
    """
    disk = work / "disk"
    log = work / "log.txt"
    results = []
    begun = work / f"disk of {name}"  # what is on the disk before the job
    command = [argument.replace("{disk}", str(disk)) for argument in arguments]
    with small_disk(disk, _LARGE):
        before = _copy(begun, disk)
        code, sentence = run_command(command, log)
        if code:
            raise RuntimeError(f"{name}: {code} {sentence}\n{log.read_text()}")
        complete = visible_files(disk)
        used = _disk_usage(disk)
    for size in (
        max(_SMALLEST, int(before + (used - before) * share)) for share in shares
    ):
        with small_disk(disk, size):
            _copy(begun, disk)
            code, sentence = run_command(command, log)
            damaged = [
                path
                for path, n in visible_files(disk).items()
                if not _is_complete(path, n, complete)
            ]
            subprocess.run(["mount", "-o", f"remount,size={_LARGE}", disk], check=True)
            again, _ = run_command(command, log) if code else (0, "")
            equal = {*complete} <= {
                path.replace("/002/", "/001/") for path in visible_files(disk)
            }
        results.append(DiskResult(name, size, code, sentence, damaged, again, equal))
    return results


def _copy(folder: Path, disk: Path) -> int:
    """Copy a folder, if it exists, and return the bytes that the disk then holds."""
    if folder.is_dir():
        shutil.copytree(folder, disk, dirs_exist_ok=True)
    return _disk_usage(disk)


def _disk_usage(folder: Path) -> int:
    return int(
        subprocess.run(
            ["du", "-sB1", folder], capture_output=True, check=True
        ).stdout.split()[0]
    )


def _is_complete(path: str, size: int, complete: dict[str, int]) -> bool:
    """Return whether a file has its size of a job with room, within the digits of a clock or a time in its text."""
    return path in complete and abs(size - complete[path]) <= max(
        64, complete[path] // 100
    )


def main() -> None:
    """Print the table; exit with 1 if a job fails in another way than it should."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", nargs="+", help="names of jobs (default: all)")
    parser.add_argument("--shares", nargs="+", type=float, default=SHARES)
    parser.add_argument(
        "--work", type=Path, help="an empty folder (default: a temporary one)"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = options.work or Path(temporary)
        results = []
        print(
            "| job | disk | exit code | sentence | half-written files | again with room"
            " |\n|---|---:|---:|---|---|---|"
        )
        for name, arguments in make_inputs(work).items():
            if options.jobs is None or name in options.jobs:
                for result in try_job(name, arguments, work, options.shares):
                    print(result.row(), flush=True)
                    results.append(result)
    passed = sum(result.passed for result in results)
    print(f"\n{passed} of {len(results)} passed")
    sys.exit(passed < len(results))


if __name__ == "__main__":
    main()
