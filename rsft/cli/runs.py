"""`rsft runs`: list, show, compare and remove runs."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from rsft.cli.display.console import console
from rsft.cli.display.plain_text import escape_controls
from rsft.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rsft.training.runs.reader import RunInfo

app = typer.Typer(help="List, show, compare and remove runs.", no_args_is_help=True)

RunsFolderArgument = Annotated[Path, typer.Argument(help="Folder with runs: runs, or runs/<recipe>.")]
RunArgument = Annotated[Path, typer.Argument(help="Run folder, or runs/<recipe> for its newest run.")]
RunsArgument = Annotated[list[Path], typer.Argument(help="Run folders, or runs/<recipe> for its newest run.")]
ExactRunsArgument = Annotated[list[Path], typer.Argument(help="Run folders: runs/<recipe>/<number>.")]

STYLES = {"done": "green", "running": "cyan", "interrupted": "yellow", "trained": "yellow"}
_MEASURES = {"macro": "macro", "micro": "overall", "head": "head", "medium": "medium", "tail": "tail"}


@app.command("ls")
def runs_ls(folder: RunsFolderArgument = Path("runs")) -> None:
    """List runs, oldest first: status, accuracy in %, epochs, time."""
    from rich.table import Table

    from rsft.training.runs.reader import find_runs

    runs = find_runs(folder)
    table = Table("run", "status", box=None, pad_edge=False)
    listed = {key: _MEASURES[key] for key in ("macro", "micro", "tail")}  # fits into 80 columns; `show` has all
    for name in (*listed.values(), "epochs", "time", "started"):
        table.add_column(name, justify="right", no_wrap=True)
    for run in runs:
        status = run.status
        scores = (_percent(run.accuracy.get(key)) for key in listed)
        started = str(run.metadata.get("started", ""))[5:16].replace("T", " ")  # no year, to fit into 80 columns
        styled = Text(escape_controls(status), STYLES.get(status, "red"))
        table.add_row(str(run.folder), styled, *scores, _epochs(run), _time(run.seconds), started)
    console.print(table if runs else f"no runs in {folder}")
    for run in runs:
        for fault in run.faults:
            console.print(Text.assemble(("broken", "red"), escape_controls(f"  {run.folder}: {fault}")), soft_wrap=True)
        if run.status == "trained":
            missing = " and ".join(f"no {name}" for name in run.missing_outputs) or "not complete"
            hint = f"rsft finetune --resume {run.folder}"
            console.print(f"trained  {run.folder}: {missing}; complete it with `{hint}`", soft_wrap=True)


@app.command("show")
def runs_show(run: RunArgument) -> None:
    """Show a run: status, accuracy, everything in run.json, and its files."""
    from rsft.training.runs.reader import find_newest_run, read_run_info

    run = find_newest_run(run)
    info = read_run_info(run)
    metadata = {key: value for key, value in info.metadata.items() if key not in ("recipe", "status", "seconds")}
    measured = {name: _percent(info.accuracy[key]) for key, name in _MEASURES.items() if key in info.accuracy}
    files = ", ".join(sorted(path.name for path in run.iterdir() if not path.name.startswith(".")))
    rows = {"status": info.status, "time": _time(info.seconds), **measured, **_flatten(metadata), "files": files}
    for name, value in rows.items():
        console.print(f"{name:<24} {value}", soft_wrap=True)
    for fault in info.faults:
        console.print(Text.assemble(("broken", "red"), escape_controls(f"  {fault}")), soft_wrap=True)
    if info.status in ("killed", "interrupted", "failed", "trained"):
        console.print(f"resume with: rsft finetune --resume {run}", soft_wrap=True)


@app.command("compare")
def runs_compare(runs: RunsArgument) -> None:
    """Compare runs: recipe keys that differ, and results side by side."""
    from rich.table import Table

    from rsft.recipe.text import to_yaml
    from rsft.training.runs.reader import find_newest_run, read_run_info, recipe_differences

    infos = [read_run_info(find_newest_run(folder)) for folder in runs]
    table = Table("", *(str(run.folder) for run in infos), box=None, pad_edge=False)
    for key, values in recipe_differences(infos).items():
        table.add_row(key, *map(to_yaml, values))
    table.add_section()
    table.add_row("status", *(run.status for run in infos))
    for key, name in _MEASURES.items():
        table.add_row(f"{name}, %", *(_percent(run.accuracy.get(key)) for run in infos))
    table.add_row("time", *(_time(run.seconds) for run in infos))
    console.print(table)


@app.command("rm")
def runs_rm(
    runs: ExactRunsArgument,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
) -> None:
    """Remove run folders with everything in them."""
    from rsft.training.runs.reader import find_newest_run, read_run_info, remove_run

    for folder in runs:
        if (newest := find_newest_run(folder)) != folder:
            raise RequestError(
                "the folder contains runs and is not a run", folder, f"name the runs to remove: {newest}"
            )
    infos = [read_run_info(folder) for folder in runs]
    for run in infos:
        if yes or typer.confirm(escape_controls(f"remove {run.folder} ({run.status})?")):
            remove_run(run)
            console.print(f"removed {run.folder}", soft_wrap=True)


def _percent(value: float | None) -> str:
    return "-" if value is None or value != value else f"{100 * value:.1f}"


def _time(seconds: float | None) -> str:
    return "-" if seconds is None else str(timedelta(seconds=round(seconds)))


def _epochs(run: RunInfo) -> str:
    """Format finished and total epochs."""
    if run.recipe is None:
        return "-"
    total = run.recipe.train.epochs
    done = total if run.status in ("done", "trained") else run.metadata.get("position", (0, 0))[0]
    return f"{done}/{total}"


def _flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested values by dotted name."""
    rows: dict[str, Any] = {}
    for key, value in values.items():
        rows |= _flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return rows
