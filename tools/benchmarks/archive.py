"""Measure the process that distributes the scenes of an archive, and print a table in Markdown.

python -m tools.benchmarks.archive [--scenes 1000000] [--out DIR]

The scenes are empty files, and a worker that returns at once takes the place of the
classification. So the table contains what the archive itself costs: processor time and
peak memory of the process that finds the scenes, computes the keys of their jobs,
submits blocks and writes scenes.csv. The first call finds no output. Before the second
call, each scene gets an empty output, so that it is skipped. Each call is a process of
its own, with one thread. The files are removed at the end, unless OUT is given.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any
from unittest.mock import patch

import typer

from rsft.inference import archive
from rsft.inference.options import PredictionRequest
from rsft.inference.scene_table import SceneResult, read_scenes
from rsft.models.bundle.bundle import Bundle
from rsft.scenes.query import Query
from tools.benchmarks.memory import peak_memory
from tools.errors import explained_errors

FILES_PER_FOLDER = 1000
MODIFIED_NS = 10**18
"""Modification time of the simulated outputs."""


class ImmediateExecutor:
    """Returns the results of tasks at once, as if they had been classified."""

    jobs = 8

    def __init__(self) -> None:
        self.scenes = 0

    def submit(
        self, work: Callable[..., Any], planned: list[SceneResult], *_: Any
    ) -> Future[list[SceneResult]]:
        """Return finished results of scenes."""
        self.scenes += len(planned)
        future: Future[list[SceneResult]] = Future()
        future.set_result(
            [
                scene._replace(status="done", chips=10, modified=MODIFIED_NS)
                for scene in planned
            ]
        )
        return future


def write_scenes(folder: Path, count: int) -> None:
    """Write empty scenes, and a list of them."""
    paths = []
    for index in range(count):
        parent = folder / f"scenes/{index // FILES_PER_FOLDER:04}"
        if index % FILES_PER_FOLDER == 0:
            parent.mkdir(parents=True)
        path = parent / f"scene_{index:07}.tif"
        path.touch()
        paths.append(f"{path}\n")
    (folder / "list.txt").write_text("".join(paths))


def write_outputs(folder: Path) -> None:
    """Write the empty outputs of all rows of scenes.csv."""
    for scene in read_scenes(folder / "out/scenes.csv"):
        path = Path(scene.output)
        path.parent.mkdir(exist_ok=True)
        path.touch()
        os.utime(path, ns=(MODIFIED_NS, MODIFIED_NS))


def call(folder: Path) -> None:
    """Classify the archive with the simulated worker, and print a row of the table."""
    bundle = SimpleNamespace(classes=("ship", "other"), sha256="0" * 64)
    executor: Any = ImmediateExecutor()
    request = PredictionRequest(query=Query(grid=64))
    start = time.process_time()
    with (
        patch.object(Bundle, "load", lambda _: bundle),
        patch.object(archive, "choose_engine", lambda *_: "torch"),
        patch.object(archive, "load_engine", lambda *_: None),
    ):
        result = archive.predict_archive(
            folder, [f"@{folder / 'list.txt'}"], folder / "out", request, executor
        )
    seconds = time.process_time() - start
    memory = peak_memory()
    statuses: Counter[str] = result.counts
    counts = ", ".join(f"{count:,} {status}" for status, count in statuses.items())
    per_scene = 1e6 * seconds / max(1, statuses.total())
    print(
        f"| {counts} | {executor.scenes:,} | {seconds:.1f} | {per_scene:.0f} |"
        f" {memory:.0f} |"
    )


def measure(folder: Path, count: int) -> None:
    """Print the table."""
    write_scenes(folder, count)
    print("| scenes | classified | CPU s | µs per scene | peak MB |")
    print("|---|---:|---:|---:|---:|", flush=True)
    command = [sys.executable, "-m", "tools.benchmarks.archive", "--call", str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(command, env=environment, check=True)
    write_outputs(folder)
    subprocess.run(command, env=environment, check=True)


def main(
    scenes: Annotated[int, typer.Option(help="Number of scenes.", min=1)] = 1_000_000,
    out: Annotated[Path | None, typer.Option(help="Folder of the files.")] = None,
    call_in: Annotated[
        Path | None,
        typer.Option("--call", hidden=True, help="Folder of a call to measure."),
    ] = None,
) -> None:
    """Measure a first call, and one that skips all scenes."""
    if call_in is not None:
        call(call_in)
        return
    folder = out or Path(tempfile.mkdtemp(prefix="rsft-archive-"))
    try:
        measure(folder.absolute(), scenes)
    finally:
        if out is None:
            shutil.rmtree(folder)


if __name__ == "__main__":
    with explained_errors():
        typer.run(main)
