"""`rsft sweep`: many runs of a recipe that differ in some keys."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rsft.cli.display.console import console, show_paths
from rsft.cli.options import OverridesArgument, RunsOption
from rsft.errors import Interrupted

app = typer.Typer()


@app.command("sweep")
def sweep(
    file: Annotated[
        str | None, typer.Argument(help="Sweep file, or name of a shipped sweep (default: list the shipped sweeps).")
    ] = None,
    overrides: OverridesArgument = None,
    runs: RunsOption = Path("runs"),
    report: Annotated[
        bool, typer.Option("--report", help="Run nothing; write the table and the heat maps again.")
    ] = False,
    retry: Annotated[bool, typer.Option("--retry", help="Run failed trials again.")] = False,
    address: Annotated[
        str | None, typer.Option(help="Address of a Ray cluster, such as auto (default: this machine).")
    ] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Maximum number of parallel trials.")] = None,
) -> None:
    """Run a recipe with many settings on Ray Tune. The same command resumes a stopped sweep.

    Writes RUNS/sweeps/<name>/ with one folder per trial, results.parquet, results.md and heat maps.
    """
    if file is None:
        _show_shipped()
        return
    from rsft.cli.display.sweep_live import SweepDisplay
    from rsft.recipe.library import find_sweep
    from rsft.sweep.job import SweepFolder, run_sweep
    from rsft.sweep.outcome import describe_keys, format_measure
    from rsft.sweep.schema import read_sweep
    from rsft.sweep.trials import list_trials

    path, exit_code = find_sweep(file), 0
    settings, document = read_sweep(path, overrides or [])
    folder = SweepFolder(runs / "sweeps" / path.stem, settings, list_trials(settings, document))
    if not report:
        try:
            with SweepDisplay(settings, folder.planned, folder.finished(retry), console) as board:
                run_sweep(folder, board, address=address, jobs=jobs, retry=retry)
        except Interrupted as error:
            exit_code = error.exit_code
    results = folder.report()
    lines = [f"failed  {describe_keys(outcome.keys)}  {outcome.reason}" for outcome in results.failed]
    if results.best is not None:
        value = format_measure(settings.metric, results.best.metrics[settings.metric])
        lines.append(f"best  {describe_keys(results.best.keys)}  {settings.metric} {value}")
    if results.remaining:
        lines.append(f"{results.remaining} of {folder.planned} trials remain: run the same command to continue")
    for line in lines:
        console.print(line, soft_wrap=True)
    show_paths(results.paths)
    raise typer.Exit(exit_code)


def _show_shipped() -> None:
    from rich.table import Table
    from rich.text import Text

    from rsft.recipe.library import list_sweeps

    table = Table.grid(padding=(0, 2))
    for entry in list_sweeps():
        table.add_row(Text(entry.name, "bold"), entry.title)
    console.print(table)
    console.print("`rsft sweep NAME` runs one", style="dim")
