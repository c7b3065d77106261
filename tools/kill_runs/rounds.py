"""Run a command, kill it at a random moment, and run it again until it ends."""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rsft.data.chips.store_notes import NOTES_VARIABLE
from tools.kill_runs.contents import digest_folder
from tools.kill_runs.verbs import Verb

_WAIT_S = 5.0  # workers of a killed process have this long to end
_PRELOADED = [
    "rsft.cli",
    "rsft.training.finetune",
    "rsft.evaluation.evaluate",
    "rsft.inference.predict.job",
]
# a killed command whose work was complete may say so
_ENDED = (
    "exists already",
    "no unfinished run",
)


@dataclass
class Result:
    """The comparison of killed runs of a command with an undisturbed one.

    Attributes:
        verb: name of the command.
        seconds: duration of the undisturbed run.
        files: number of files that it leaves.
        volatile: files that differ between two undisturbed runs.
        kills: number of processes that were killed before they ended.
        unequal: files that differ or are missing, once per kill.
        left: files and folders that an undisturbed run does not leave, once per kill.
        workers: number of processes that were alive some seconds after a kill.
        failed: the last line of each command after a kill that failed.
    """

    verb: str
    seconds: float
    files: int
    volatile: set[str]
    kills: int = 0
    unequal: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    workers: int = 0
    failed: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether everything is equal and nothing is left."""
        return not (self.unequal or self.left or self.workers or self.failed)

    def sentences(self) -> str:
        """Return what differs, in words."""
        faults = {"unequal": self.unequal, "left": self.left, "failed": self.failed}
        words = [
            f"{name}: {', '.join(sorted(set(items)))}"
            for name, items in faults.items()
            if items
        ]
        return f"{self.verb}: {self.kills} kills" + "".join(
            f"\n  {text}" for text in words
        )


def kill_verb(verb: Verb, kills: int, work: Path, seed: int = 0) -> Result:
    """Kill a command some times, and compare what it leaves with an undisturbed run.

    Args:
        verb: the command.
        kills: number of rounds of one kill each.
        work: folder with `inputs`; the command runs in a folder of its name there.
        seed: seed of the moments.

    Returns:
        The comparison.

    Raises:
        RuntimeError: an undisturbed run fails.
    """
    folder = work / verb.name
    inputs = work / "inputs"
    log = work / f"{verb.name}.log"
    runs = []
    for _ in range(2):
        _renew(folder, inputs, verb)
        began = time.monotonic()
        code = run_command(verb.command, folder, inputs, log)
        if code:
            raise RuntimeError(
                f"{verb.name} ended with {code}:"
                f" {log.read_text('utf-8', 'replace')[-2000:]}"
            )
        seconds = time.monotonic() - began
        runs.append(digest_folder(folder))
    volatile = {
        path
        for path in runs[0].keys() | runs[1].keys()
        if runs[0].get(path) != runs[1].get(path)
    }
    result = Result(verb.name, seconds, len(runs[1]), volatile)
    rng = random.Random(f"{seed} {verb.name}")
    for _ in range(kills):
        _renew(folder, inputs, verb)
        _kill_once(
            verb,
            folder,
            inputs,
            log,
            rng.uniform(0, 1.1 * seconds),
            rng.random() < 0.5,
            result,
        )
        _finish(verb, folder, inputs, log, result)
        left = digest_folder(folder)
        result.left += sorted(left.keys() - runs[1].keys())
        result.unequal += [
            path
            for path, content in runs[1].items()
            if left.get(path, "") != content and path not in volatile
        ]
        result.unequal += sorted(volatile & runs[1].keys() - left.keys())
    return result


def run_command(command: Sequence[str], folder: Path, inputs: Path, log: Path) -> int:
    """Run a command to its end.

    Args:
        command: arguments after `rsft`; INPUTS stands for the folder of inputs.
        folder: working folder.
        inputs: folder of inputs.
        log: file that receives what the command prints.

    Returns:
        The exit code.
    """
    process = _start(command, folder, inputs, log)
    process.join()
    return int(process.exitcode)


def _renew(folder: Path, inputs: Path, verb: Verb) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in verb.copies:
        source = inputs / name
        (
            shutil.copytree(source, folder / name)
            if source.is_dir()
            else shutil.copy2(source, folder / name)
        )


def _kill_once(
    verb: Verb,
    folder: Path,
    inputs: Path,
    log: Path,
    moment: float,
    with_session: bool,
    result: Result,
) -> None:
    """Start the command and kill it at a moment, if it has not ended; count the processes that stay."""
    process = _start(verb.command, folder, inputs, log)
    process.join(moment)
    if process.exitcode is not None:
        return
    result.kills += 1
    # the session begins some milliseconds after the process
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL) if with_session else None
    process.kill()
    process.join()
    limit = time.monotonic() + _WAIT_S
    while (alive := _processes_of(process.pid, folder)) and time.monotonic() < limit:
        time.sleep(0.1)
    result.workers += len(alive)
    for pid in alive:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _finish(verb: Verb, folder: Path, inputs: Path, log: Path, result: Result) -> None:
    """Run the documented command after a kill."""
    has_run = any(folder.glob("runs/*/*/run.json"))
    if verb.resume is not None and has_run:
        command = verb.resume
    else:
        command = verb.command
    code = run_command(command, folder, inputs, log)
    if code:
        printed = log.read_text("utf-8", "replace")
        if code != 2 or not any(text in printed for text in _ENDED):
            result.failed.append(
                printed.strip().splitlines()[-1]
                if printed.strip()
                else f"exit code {code}"
            )


def _start(command: Sequence[str], folder: Path, inputs: Path, log: Path) -> Any:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    process = context.Process(target=_run, args=(tuple(command), folder, inputs, log))
    process.start()
    return process


def _run(command: tuple[str, ...], folder: Path, inputs: Path, log: Path) -> None:
    os.setsid()
    _use_home(log.with_name("home"))
    os.chdir(folder)
    with log.open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    import torch

    from rsft.cli import run

    torch.set_num_threads(1)
    sys.argv = ["rsft", *(word.replace("INPUTS", str(inputs)) for word in command)]
    run()


def _use_home(home: Path) -> None:
    """Let this process write caches and the list of chip stores in another home."""
    for name in list(os.environ):
        if name.startswith("XDG_") or name == NOTES_VARIABLE:
            del os.environ[name]
    os.environ["HOME"] = str(home)
    home.mkdir(exist_ok=True)


def _processes_of(session: int, folder: Path) -> list[int]:
    """Return the processes of a session, or with this working folder, that are alive."""
    alive = []
    for path in Path("/proc").glob("[0-9]*"):
        # it has ended in the meantime, or belongs to another user
        with suppress(OSError, IndexError):
            fields = (path / "stat").read_text().rpartition(")")[2].split()
            is_here = (path / "cwd").readlink() == folder
            if fields[0] != "Z" and (int(fields[3]) == session or is_here):
                alive.append(int(path.name))
    return alive
