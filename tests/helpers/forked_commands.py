"""Run many commands of `rsft`, each in a fork of a process that has imported it.

`python -m tests.helpers.forked_commands` reads a JSON object of jobs by their names on
its standard input, and writes their exit statuses. What a command prints is written to
`printed.txt` in its folder for outputs.
"""

import gc
import json
import os
import signal
import sys
import time
from importlib import import_module
from pathlib import Path

SECONDS = 300
"""Time after which a command is killed."""
_MODULES = (
    *(f"rsft.cli.{name}" for name in ("predict", "prepare", "data", "evaluate")),
    *(f"rsft.cli.{name}" for name in ("finetune", "bundle", "runs", "export")),
    "rsft.inference.predict.job",
    "rsft.inference.review.page",
    "rsft.scenes.preparation.builder",
    "rsft.corrections.add",
    "rsft.training.finetune",
    "rsft.evaluation.evaluate",
    "pyarrow.parquet",
    "geopandas",
)
"""Modules that would be imported by each command."""


def run_command(words: list[str], folder: str, out: str) -> int:
    """Run a command in a fork, and return its exit status; -9 if it was killed."""
    process = os.fork()
    if not process:
        _become_command(words, folder, out)
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.killpg(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return -signal.SIGKILL


def _become_command(words: list[str], folder: str, out: str) -> None:
    from rsft.cli import run

    status = 99
    try:
        os.setsid()
        os.chdir(folder)
        printed = os.open(f"{out}/printed.txt", os.O_WRONLY | os.O_CREAT)
        os.dup2(printed, 1)
        os.dup2(printed, 2)
        sys.argv = ["rsft", *words]
        run()
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 0
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _check_nothing() -> None:
    """Let functions that check names accept everything, as programs without them."""
    from rsft import cli
    from rsft.cli import reading
    from rsft.corrections import cutter, sources
    from rsft.data.chips import manifest
    from rsft.evaluation.report import pages
    from rsft.models.bundle import foreign_keys
    from rsft.training import replay
    from rsft.utils import tables

    sources.Sources.find_file = lambda _, paths, *__: next(
        (path for path in paths if path.is_file()), None
    )
    sources.Sources.check = lambda *_: None
    cutter.allow_scene = lambda *_: True
    manifest.check_chip_path = lambda path: None
    pages.hash_manifest = lambda path: None
    foreign_keys.find_foreign_keys = replay.find_foreign_keys = lambda *_: {}
    tables.escape_cell = lambda value: value
    cli.refuse_servers = reading.refuse_servers = lambda: None


def main() -> None:
    """Run the jobs of the standard input one after the other."""
    for name in _MODULES:
        import_module(name)
    if "RSFT_NAIVE" in os.environ:
        _check_nothing()
    gc.freeze()
    statuses = {}
    for name, (words, folder, out) in json.load(sys.stdin).items():
        Path(out).mkdir(parents=True, exist_ok=True)
        statuses[name] = run_command(words, folder, out)
    json.dump(statuses, sys.stdout)


if __name__ == "__main__":
    main()
