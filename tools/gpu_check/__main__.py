"""Check rsft on a GPU against the CPU, measure it beside Hugging Face PEFT, and write one JSON file.

python -m tools.gpu_check [--device cuda] [--out gpu_check.json] [--minutes 10]
python -m tools.gpu_check --dry-run

docs/gpu-check.md explains every figure. Images and weights are random, so that nothing
is downloaded. A row that fails says why and ends no other row; the exit code is 1 then.
Nothing else should run on the machine. The peer Hugging Face PEFT needs the package
peft. `--dry-run` runs every row with tiny networks on the CPU: it shows that the program
works, and its figures mean nothing.
"""

from __future__ import annotations

import json
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from rsft.errors import RequestError
from rsft.utils.atomic_files import write_text
from tools.errors import explained_errors
from tools.gpu_check.rows import Row, make_rows
from tools.gpu_check.supervisor import (
    Limits,
    Machine,
    MakeTasks,
    StartError,
    run_supervised,
)

SCHEMA = 1
"""Version of the JSON file."""

TASK_SECONDS = 180
"""Longest time of a task."""


def main(
    device: Annotated[
        Literal["auto", "cuda", "mps", "cpu"],
        typer.Option(help="Device to check (default: the GPU of this machine)."),
    ] = "auto",
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Use tiny networks, by default on the CPU."),
    ] = False,
    out: Annotated[Path, typer.Option(help="JSON file to write.")] = Path(
        "gpu_check.json"
    ),
    skip: Annotated[
        list[str] | None, typer.Option(help="Section to leave out; may repeat.")
    ] = None,
    minutes: Annotated[
        float, typer.Option(help="Minutes after which the remaining rows are left out.")
    ] = 10.0,
) -> None:
    """Check and measure rsft on a device, and write one JSON file."""
    from tools.gpu_check.tasks import make_tasks

    with tempfile.TemporaryDirectory() as folder:
        make = partial(make_tasks, device, dry_run, Path(folder), tuple(skip or ()))
        report = write_report(out, make, Limits(60 * minutes, TASK_SECONDS), dry_run)
    counts = report["counts"]
    typer.echo(f"{', '.join(f'{counts[x]} {x}' for x in counts)}: {out}")
    if counts["failed"]:
        raise typer.Exit(1)


def write_report(
    path: Path, make_tasks: MakeTasks, limits: Limits, dry_run: bool = False
) -> dict[str, Any]:
    """Run all tasks, print their rows, and write the report after each of them.

    Args:
        path: the JSON file.
        make_tasks: see `run_supervised`.
        limits: see `run_supervised`.
        dry_run: whether the figures mean nothing.

    Returns:
        The content of the file.

    Raises:
        RequestError: the tasks cannot be made.
    """
    started = time.time()
    rows: list[Row] = []
    report: dict[str, Any] = {}
    try:
        for machine, title, outcome in run_supervised(make_tasks, limits):
            new = make_rows(title, outcome, rows)
            rows += new
            for row in new:
                typer.echo(row)
            report = describe(machine, rows, started) | {"dry_run": dry_run}
            report["time_limit_s"] = limits.total
            write_text(path, json.dumps(report, indent=1) + "\n")
    except StartError as error:
        raise RequestError(str(error), "--device", "try it with --dry-run") from error
    return report


def describe(machine: Machine, rows: list[Row], started: float) -> dict[str, Any]:
    """Return the report.

    Args:
        machine: the machine.
        rows: the rows that are finished.
        started: start of the program in seconds since 1970.
    """
    statuses: list[str] = [row.status for row in rows]
    names = ("ok", "failed", "not run", "left out")
    return {
        "schema": SCHEMA,
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
        "seconds": round(time.time() - started, 1),
        "machine": machine,
        "counts": {name: statuses.count(name) for name in names},
        "rows": [row.to_json() for row in rows],
    }


if __name__ == "__main__":
    with explained_errors():
        typer.run(main)
