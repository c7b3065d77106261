"""Print tables of the paper in Markdown: paper, authors' code and rsft."""

import statistics
from collections.abc import Mapping, Sequence

from rsft.plugins.sweeps.paper.cells import (
    Column,
    PaperTable,
    store_name,
    table_cells,
)
from rsft.plugins.sweeps.paper.runs import TableRuns, Value
from rsft.recipe.library import find_recipe
from rsft.recipe.load import load_recipe
from rsft.utils.templates import render_template

NOT_RUN = "-"
MISSING = "?"


def table_markdown(number: str, runs: TableRuns) -> str:
    """Return a table with its title, its settings, and failed and missing runs.

    Args:
        number: number of the table, such as "S3".
        runs: its runs.
    """
    table = runs.table
    rows = []
    for row in table.rows:
        for column, paper in table.paper_values(row).items():
            set_name, measure = column
            name = measure if len(table.sets) == 1 else f"{set_name} {measure}".strip()
            printed = MISSING if paper is None else _number(paper, column)
            authors = _cell(column_values(runs, row, column, authors=True), column)
            ours = _cell(column_values(runs, row, column), column)
            rows.append([row, name, printed, authors, ours])
    paper_stores = []
    if runs.settings.base_recipe:
        for name in dict.fromkeys(cell.recipe for cell in table_cells(table)):
            paper_stores.append(store_name(load_recipe(find_recipe(name))))
    data = [store_name(trial.recipe) for trial in runs.trials]
    return render_template(
        __package__,
        "page.md.jinja",
        title=f"{table_name(number)}: {table.title}",
        runs=runs,
        headings=["", "", "paper", "authors' code", "rsft"],
        rows=rows,
        data=", ".join(dict.fromkeys(data)),
        paper_data=dict.fromkeys(paper_stores),
        missing=dict.fromkeys(cell.recipe for cell, trials in runs.cells if not trials),
    )


def overview_markdown(tables: Mapping[str, PaperTable]) -> str:
    """Return one line per table, given tables by number: title and what varies."""
    rows = [[table_name(x), table.title, table.varies] for x, table in tables.items()]
    return render_template(
        __package__,
        "page.md.jinja",
        runs=None,
        headings=["", "title", "varies"],
        rows=rows,
    )


def table_name(number: str) -> str:
    """Return the name of a table, such as "Table 2" or "Figure 1d".

    Args:
        number: number of the table, such as "2" or "Figure-1d".
    """
    if number.startswith("Figure"):
        return number.replace("-", " ")
    return f"Table {number}"


def column_values(
    runs: TableRuns, row: str, column: Column, authors: bool = False
) -> list[Value]:
    """Return the values of a cell, one per seed.

    A mean over sets is one value without an interval, and needs runs in every set.
    """
    set_name, measure = column
    if set_name:
        return runs.values(row, column, authors)
    kind = runs.table.means[measure]
    means = []
    for member in runs.table.columns:
        if member[0] and kind in ("all", member[1]):
            values = runs.values(row, member, authors)
            if not values:
                return []
            means.append(statistics.mean(value[0] for value in values))
    return [(statistics.mean(means),)]


def _cell(values: Sequence[Value], column: Column) -> str:
    """Return value and interval of one run, or mean and deviation of several."""
    if not values:
        return NOT_RUN
    means = [value[0] for value in values]
    text = _number(statistics.mean(means), column)
    if len(means) > 1:
        return f"{text} ± {_number(statistics.stdev(means), column)}"
    limits = [_number(limit, column) for limit in values[0][1:]]
    return f"{text} [{', '.join(limits)}]" if limits else text


def _number(value: float, column: Column) -> str:
    set_name, measure = column
    digits = 1
    if measure.endswith("parameters"):
        digits = 3
    elif measure.startswith("distance") or not set_name:
        digits = 2
    return f"{value:.{digits}f}"
