"""`rsft reproduce`: the tables of the paper."""

from pathlib import Path
from typing import Annotated

import typer

from rsft.cli.display.console import console, escape_controls, print_rows, progress
from rsft.cli.options import documented
from rsft.utils.command_options import Argument, Option

app = typer.Typer()


@app.command()
@documented
def reproduce(
    table: Annotated[str, Argument()] = "",
    overrides: Annotated[list[str] | None, Argument(metavar="[KEY=VALUE]...")] = None,
    column: Annotated[str, Option(metavar="SET")] = "",
    root: Annotated[Path | None, Option(metavar="FOLDER")] = None,
    lists: Path | None = None,
    metalora: Annotated[Path | None, Option(metavar="CHECKOUT")] = None,
    runs: Path = Path("runs/tables"),
    base: Annotated[str, Option(name="--on", metavar="RECIPE")] = "",
    seeds: Annotated[int, Option(min=0)] = 0,
    threads: Annotated[int, Option(min=1)] = 1,
    report: bool = False,
) -> None:
    """Repeat a table or figure of the paper, and print our numbers beside the paper's.

    Without TABLE, list them.

    rsft reproduce table4 --column SAR --root /data prepares the chips from the archives
    in /data, says what is missing, trains every row, and prints paper, authors' code
    and rsft with 95 % intervals. The same command again continues what was stopped or
    killed; finished runs are not repeated.

    Args:
        table: Table or figure, such as table4, S3 or Figure-1c.
        overrides: Recipe keys for all runs, as section.key=value.
        column: Only this column of the table, such as SAR or DOTA.
        root: Folder that holds the archives, and gets the chip stores; or a chip store
            (default: those of the recipes).
        lists: Folder of the authors' lists (default for FUSRS: download).
        metalora: Checkout of github.com/doem97/metalora, whose trainer then also runs,
            on the same batches.
        runs: Folder of the runs.
        base: Take data, network and training from this recipe, which is no reproduction
            of the paper.
        seeds: Runs of each cell, with seeds from 0 (default: one run with the seed of
            the recipe).
        threads: CPU threads of a run.
        report: Run nothing; print the results that exist for these options.
    """
    from rsft.plugins.sweeps.paper.cells import TableSettings, read_tables, table_name

    if not table:
        tables = read_tables().items()
        print_rows({table_name(number): table.title for number, table in tables})
        return

    from rsft.plugins.sweeps.paper.job import (
        ReproductionRequest,
        find_table,
        reproduce_table,
    )

    def say(text: str) -> None:
        for line in text.splitlines():
            console.print(escape_controls(line), markup=False, highlight=False)

    settings = TableSettings(
        base, tuple(overrides or ()), tuple(range(seeds)), column, root
    )
    request = ReproductionRequest(
        find_table(table),
        settings,
        runs,
        lists,
        metalora,
        threads=threads,
        only_print=report,
    )
    say(reproduce_table(request, say, progress))
