"""`rsft sweep`: many runs of a recipe that differ in some keys."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rsft.cli.display.console import console, show_paths
from rsft.cli.options import OverridesArgument, RunsOption

app = typer.Typer()


@app.command("sweep")
def sweep(
    file: Annotated[
        str | None, typer.Argument(help="A sweep file, or the name of a shipped one; lists those if left out.")
    ] = None,
    overrides: OverridesArgument = None,
    runs: RunsOption = Path("runs"),
    report: Annotated[bool, typer.Option("--report", help="Run nothing: write table and heat maps anew.")] = False,
    retry: Annotated[bool, typer.Option("--retry", help="Run the trials that failed again.")] = False,
    address: Annotated[
        str | None, typer.Option(help="Of a Ray cluster, such as auto; this machine if left out.")
    ] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Trials at once, at most.")] = None,
) -> None:
    """Search over the keys of a recipe on Ray Tune; the same command goes on where it was stopped.

    Leaves RUNS/sweeps/<name>/ with a folder a trial, results.parquet, results.md and the heat maps.
    """
    if file is None:
        _show_shipped()
        return
    from rsft.cli.display.sweep_live import Board, describe
    from rsft.recipe.library import find_sweep
    from rsft.sweep.job import SweepFolder, run_sweep
    from rsft.sweep.results import as_text
    from rsft.sweep.schema import read_sweep
    from rsft.sweep.trials import list_trials

    path = find_sweep(file)
    wanted, document = read_sweep(path, overrides or [])
    folder = SweepFolder(runs / "sweeps" / path.stem, wanted, list_trials(wanted, document))
    stopped = False
    if not report:
        try:
            with Board(wanted, folder.planned, folder.finished(retry), console) as board:
                run_sweep(folder, board, address=address, jobs=jobs, retry=retry)
        except KeyboardInterrupt:
            stopped = True
    results = folder.report()
    for outcome in results.failed:
        console.print(f"failed  {describe(outcome.keys)}  {outcome.reason}", soft_wrap=True, markup=False)
    if results.best is not None:
        value = as_text(wanted.metric, results.best.metrics[wanted.metric])
        console.print(f"best  {describe(results.best.keys)}  {wanted.metric} {value}", soft_wrap=True, markup=False)
    if results.left:
        console.print(f"{results.left} of {folder.planned} trials are left: the same command goes on")
    show_paths(results.paths)
    if stopped:
        raise typer.Exit(130)


def _show_shipped() -> None:
    from rich.table import Table

    from rsft.recipe.library import list_sweeps

    table = Table.grid(padding=(0, 2))
    for entry in list_sweeps():
        table.add_row(f"[bold]{entry.name}[/bold]", entry.title)
    console.print(table)
    console.print("[dim]rsft sweep NAME runs one[/dim]")
