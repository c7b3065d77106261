"""A table of the paper, ours beside the paper's: run what is missing of it, or collect what was run.

    python -m tools.reproduction.paper_tables --list
    python -m tools.reproduction.paper_tables 2 --run  # the table's recipes, as they come
    python -m tools.reproduction.paper_tables 2 --results runs/sweeps/table_2_positions   # what `rsft sweep` has run
    python -m tools.reproduction.paper_tables 2 6 --run --results DIR --on mstar_lt_metalora --root DATA --seeds 3 \\
        train.epochs=6
    python -m tools.reproduction.paper_tables 2 6 --results DIR  # of what was asked then

A run that is done is not run again, and one that was stopped goes on. With --on every cell takes data, network and
training of that recipe, its rank and scale included, and of the table's recipe the method with its sites; it is then no
reproduction of the paper, and says so.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rsft.cli.display.console import show_error
from rsft.errors import RsftError
from rsft.sweep.process import Stopped
from tools.reproduction.paper_cells import Asked, PaperTable, read_tables
from tools.reproduction.paper_print import markdown, overview
from tools.reproduction.paper_runs import TableRuns


def main() -> None:
    """Run, collect, print."""
    options = parse()
    tables = read_tables()
    names = {number.lower(): number for number in tables}
    numbers = [wish for wish in options.wishes if "=" not in wish]
    for wish in numbers:
        if wish.lower() not in names:
            sys.exit(f"error: there is no table {wish}\n{', '.join(tables)}")
    try:
        if options.list or not numbers:
            print(overview(tables, options.results))
        for number in (names[wish.lower()] for wish in numbers):
            print(show(number, tables[number], options), flush=True)
    except RsftError as error:
        show_error(error)
        sys.exit(1)
    except (KeyboardInterrupt, Stopped):
        print("stopped: the same command goes on")
        sys.exit(130)


def show(number: str, table: PaperTable, options: argparse.Namespace) -> str:
    """One table in Markdown, its missing runs done where that is asked."""
    file = options.results / f"table_{number}.json"
    asked = wanted(options) if options.run or options.on or options.seeds or options.overrides else Asked.read(file)
    runs = TableRuns(table, asked, options.results)
    if options.run and not table.is_counted:
        asked.save(file)
        runs.run(options.retry, options.threads)
    return markdown(number, runs)


def wanted(options: argparse.Namespace) -> Asked:
    """As the command line says."""
    return Asked(options.on, tuple(options.overrides), tuple(range(options.seeds)))


def parse() -> argparse.Namespace:
    """The command line, where numbers and overrides come in any order."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wishes", nargs="*", metavar="NUMBER | KEY=VALUE", help="tables, and keys of every recipe")
    parser.add_argument("--list", action="store_true", help="name the tables; so does a call without a number")
    parser.add_argument("--run", action="store_true", help="run what has no result yet")
    parser.add_argument("--retry", action="store_true", help="run what failed in training once more")
    parser.add_argument("--results", type=Path, default=Path("runs/tables"), help="folder of the runs (%(default)s)")
    parser.add_argument("--on", default="", metavar="RECIPE", help="data, network and training in place of the paper's")
    parser.add_argument("--root", default="", help="prepared data, as data.root=ROOT")
    parser.add_argument("--seeds", type=int, default=0, help="runs of every cell; the recipe's one seed if left out")
    parser.add_argument("--threads", type=int, default=1, help="of a run (%(default)s)")
    options = parser.parse_intermixed_args()
    options.overrides = [wish for wish in options.wishes if "=" in wish]
    if options.root:
        options.overrides.insert(0, f"data.root={options.root}")
    return options


if __name__ == "__main__":
    main()
