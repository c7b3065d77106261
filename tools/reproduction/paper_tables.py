r"""Print tables of the MetaPEFT paper with our numbers beside the paper's; with --run, do the missing runs first.

    python -m tools.reproduction.paper_tables --list
    python -m tools.reproduction.paper_tables 2 --run  # the table's recipes as shipped
    python -m tools.reproduction.paper_tables 2 --results runs/sweeps/table_2_positions  # results of `rsft sweep`
    python -m tools.reproduction.paper_tables 2 6 --run --results DIR --on mstar_lt_metalora --root DATA --seeds 3 \
        train.epochs=6
    python -m tools.reproduction.paper_tables 2 6 --results DIR  # with the settings of the last --run
    python -m tools.reproduction.paper_tables Figure-1a --run --seeds 3  # also draws DIR/figure_1a.png and .svg

Finished runs are not repeated, and stopped runs are resumed. With --on RECIPE, every cell takes data, network,
training, rank and scale from that recipe, and method and sites from the table's recipe. The table then says that it is
not a reproduction of the paper.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rsft.sweep.process import TrialStopped
from tools.errors import explained_errors
from tools.reproduction.paper_cells import PaperTable, TableSettings, read_tables
from tools.reproduction.paper_figure import save_bubble_chart
from tools.reproduction.paper_print import data_names, overview_markdown, table_markdown, table_name
from tools.reproduction.paper_runs import TableRuns


def main() -> None:
    """Do the missing runs if the command line asks for it, and print the tables."""
    options = parse_arguments()
    tables = read_tables()
    names = {number.lower(): number for number in tables}
    numbers = [argument for argument in options.arguments if "=" not in argument]
    for number in numbers:
        if number.lower() not in names:
            sys.exit(f"error: no table {number}; choose from {', '.join(tables)}")
    try:
        with explained_errors():
            if options.list or not numbers:
                print(overview_markdown(tables, options.results))
            for number in (names[argument.lower()] for argument in numbers):
                print(make_table(number, tables[number], options), flush=True)
    except (KeyboardInterrupt, TrialStopped):
        print("stopped: run the same command again to continue")
        sys.exit(130)


def make_table(number: str, table: PaperTable, options: argparse.Namespace) -> str:
    """Return one table in Markdown, and the paths of its figure; with --run, do its missing runs first.

    Args:
        number: number of the table.
        table: the table.
        options: the parsed command line.
    """
    settings_file = options.results / f"table_{number}.json"
    has_settings = options.run or options.on or options.seeds or options.overrides
    settings = requested_settings(options) if has_settings else TableSettings.read(settings_file)
    runs = TableRuns(table, settings, options.results)
    if options.run and not table.only_counts_parameters:
        settings.save(settings_file)
        runs.run(options.retry, options.threads)
    lines = [table_markdown(number, runs)]
    if table.chart:
        path = options.results / number.lower().replace("-", "_")
        lines += map(str, save_bubble_chart(runs, _figure_title(number, runs), path))
    return "\n".join(lines)


def _figure_title(number: str, runs: TableRuns) -> str:
    data = data_names(runs)
    return f"{data}: not the paper's data or network" if runs.settings.base_recipe else f"{table_name(number)}, {data}"


def requested_settings(options: argparse.Namespace) -> TableSettings:
    """Return the settings on the command line.

    Args:
        options: the parsed command line.

    Returns:
        Base recipe, overrides and seeds.
    """
    return TableSettings(options.on, tuple(options.overrides), tuple(range(options.seeds)))


def parse_arguments() -> argparse.Namespace:
    """Parse the command line, where table numbers and overrides come in any order.

    Returns:
        Options by name.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kind = "NUMBER | KEY=VALUE"
    parser.add_argument("arguments", nargs="*", metavar=kind, help="tables to print; recipe keys for all runs")
    parser.add_argument("--list", action="store_true", help="list the tables (default if no table is given)")
    parser.add_argument("--run", action="store_true", help="do all runs that have no result yet")
    parser.add_argument("--retry", action="store_true", help="also repeat runs that failed in training")
    parser.add_argument("--results", type=Path, default=Path("runs/tables"), help="folder of the runs (%(default)s)")
    parser.add_argument("--on", default="", metavar="RECIPE", help="take data, network and training from this recipe")
    parser.add_argument("--root", default="", help="folder of the chip store; short for data.root=ROOT")
    parser.add_argument("--seeds", type=int, default=0, help="runs per cell, seeds 0 to N - 1 (default: recipe's seed)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads per run (%(default)s)")
    options = parser.parse_intermixed_args()
    options.overrides = [argument for argument in options.arguments if "=" in argument]
    if options.root:
        options.overrides.insert(0, f"data.root={options.root}")
    return options


if __name__ == "__main__":
    main()
