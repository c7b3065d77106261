"""`rsft runs`: list, show, compare and remove runs."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rsft.cli.display.console import console

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rsft.training.runs.reader import RunInfo

app = typer.Typer(help="List, show, compare and remove runs.", no_args_is_help=True)

PlaceArgument = Annotated[Path, typer.Argument(help="Folder of runs: runs, or runs/<recipe>.")]
RunArgument = Annotated[Path, typer.Argument(help="Folder of a run.")]
RunsArgument = Annotated[list[Path], typer.Argument(help="Folders of runs.")]

STYLES = {"done": "green", "running": "cyan", "interrupted": "yellow"}
_MEASURES = {"macro": "macro", "micro": "overall", "head": "head", "medium": "medium", "tail": "tail"}


@app.command("ls")
def runs_ls(place: PlaceArgument = Path("runs")) -> None:
    """The runs, oldest first: status, accuracy in %, and time."""
    from rich.table import Table

    from rsft.training.runs.reader import find_runs

    found = find_runs(place)
    table = Table("run", "status", box=None, pad_edge=False)
    listed = {key: _MEASURES[key] for key in ("macro", "micro", "tail")}  # what 80 columns hold; `show` has them all
    for name in (*listed.values(), "epochs", "time", "begun"):
        table.add_column(name, justify="right", no_wrap=True)
    for run in found:
        status = run.status
        scores = (_percent(run.accuracy.get(key)) for key in listed)
        begun = str(run.facts.get("started", ""))[5:16].replace("T", " ")  # the year would not fit into 80 columns
        styled = f"[{STYLES.get(status, 'red')}]{status}[/]"
        table.add_row(str(run.folder), styled, *scores, _epochs(run), _time(run.seconds), begun)
    console.print(table if found else f"no runs in {place}")
    for run in found:
        for fault in run.faults:
            console.print(f"[red]broken[/red]  {run.folder}: {fault}", soft_wrap=True)


@app.command("show")
def runs_show(run: RunArgument) -> None:
    """What a run is, how it went, and what it left."""
    from rsft.training.runs.reader import read_run

    found = read_run(run)
    facts = {key: value for key, value in found.facts.items() if key not in ("recipe", "status", "seconds")}
    measured = {name: _percent(found.accuracy[key]) for key, name in _MEASURES.items() if key in found.accuracy}
    left = ", ".join(sorted(path.name for path in run.iterdir() if not path.name.startswith(".")))
    rows = {"status": found.status, "time": _time(found.seconds), **measured, **_flat(facts), "left": left}
    for name, value in rows.items():
        console.print(f"{name:<24} {value}", soft_wrap=True, markup=False)
    for fault in found.faults:
        console.print(f"[red]broken[/red]  {fault}", soft_wrap=True)
    if found.status in ("killed", "interrupted", "failed"):
        console.print(f"go on with: rsft finetune --resume {run}", soft_wrap=True, markup=False)


@app.command("compare")
def runs_compare(runs: RunsArgument) -> None:
    """The keys of the recipes that differ, and what came of it, side by side."""
    from rich.table import Table

    from rsft.recipe.text import show
    from rsft.training.runs.reader import differences, read_run

    found = [read_run(folder) for folder in runs]
    table = Table("", *(str(folder) for folder in runs), box=None, pad_edge=False)
    for key, values in differences(found).items():
        table.add_row(key, *map(show, values))
    table.add_section()
    table.add_row("status", *(run.status for run in found))
    for key, name in _MEASURES.items():
        table.add_row(f"{name}, %", *(_percent(run.accuracy.get(key)) for run in found))
    table.add_row("time", *(_time(run.seconds) for run in found))
    console.print(table)


@app.command("rm")
def runs_rm(runs: RunsArgument, yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False) -> None:
    """Remove runs, with all that they left."""
    from rsft.training.runs.reader import read_run, remove

    found = [read_run(folder) for folder in runs]
    for run in found:
        if yes or typer.confirm(f"remove {run.folder} ({run.status})?"):
            remove(run)
            console.print(f"removed {run.folder}", soft_wrap=True, markup=False)


def _percent(value: float | None) -> str:
    return "-" if value is None or value != value else f"{100 * value:.1f}"


def _time(seconds: float | None) -> str:
    return "-" if seconds is None else str(timedelta(seconds=round(seconds)))


def _epochs(run: RunInfo) -> str:
    """Done and all."""
    if run.recipe is None:
        return "-"
    total = run.recipe.train.epochs
    done = total if run.status == "done" else run.facts.get("position", (0, 0))[0]
    return f"{done}/{total}"


def _flat(facts: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested facts by dotted name."""
    rows: dict[str, Any] = {}
    for key, value in facts.items():
        rows |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return rows
