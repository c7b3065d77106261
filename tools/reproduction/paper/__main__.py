"""Repeat a table or figure of the paper, and print our numbers beside the paper's.

    python -m tools.reproduction.paper
    python -m tools.reproduction.paper table4 --column SAR --root DATA

Without TABLE, list them. With one, prepare the chips from the archives in DATA, say
what is missing, train every row, and print paper, authors' code and rsft with 95 %
intervals. The same command again continues what was stopped or killed; finished runs
are not repeated.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from rsft.cli.display.console import escape_controls, progress
from tools.errors import explained_errors
from tools.reproduction.paper.cells import TableSettings, read_tables
from tools.reproduction.paper.job import (
    ReproductionRequest,
    find_table,
    reproduce_table,
)
from tools.reproduction.paper.pages import overview_markdown


def say(text: str) -> None:
    """Print a text without control characters other than its line breaks."""
    print(escape_controls(text, keep="\n"), flush=True)


def main(words: Sequence[str] | None = None) -> None:
    """Print the list of tables, or do the missing runs of one table and print it.

    Args:
        words: the arguments (default: those of the process).
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "table", nargs="?", help="table or figure, such as table4, S3 or Figure-1c"
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="recipe keys for all runs"
    )
    parser.add_argument(
        "--column", default="", help="only this column of the table, such as SAR"
    )
    parser.add_argument(
        "--root",
        default="",
        help="folder that holds the archives, and gets the chip stores; or a chip store"
        " (default: those of the recipes)",
    )
    parser.add_argument(
        "--lists",
        type=Path,
        help="folder of the authors' lists (default for FUSRS: download)",
    )
    parser.add_argument(
        "--metalora",
        type=Path,
        help="checkout of github.com/doem97/metalora, whose trainer then also runs,"
        " on the same batches",
    )
    parser.add_argument(
        "--runs", type=Path, default=Path("runs/tables"), help="folder of the runs"
    )
    parser.add_argument(
        "--on",
        default="",
        metavar="RECIPE",
        help="take data, network and training from this recipe, which is no"
        " reproduction of the paper",
    )
    parser.add_argument(
        "--seeds",
        type=int,
        default=0,
        help="runs of each cell, with seeds from 0 (default: one, with the seed of the"
        " recipe)",
    )
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of a run")
    parser.add_argument(
        "--report", action="store_true", help="run nothing; print existing results"
    )
    options = parser.parse_intermixed_args(words)
    if options.table is None:
        say(overview_markdown(read_tables(), options.runs))
        return
    settings = TableSettings(
        options.on,
        tuple(options.overrides),
        tuple(range(options.seeds)),
        options.column,
        options.root,
    )
    request = ReproductionRequest(
        find_table(options.table),
        settings,
        options.runs,
        options.lists,
        options.metalora,
        options.threads,
        options.report,
    )
    say(reproduce_table(request, say, progress))


if __name__ == "__main__":
    with explained_errors():
        main()
