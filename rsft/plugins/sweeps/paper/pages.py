"""Print tables of the paper in Markdown: paper, authors' code and rsft."""

import statistics
from collections.abc import Sequence

from rsft.plugins.sweeps.paper.cells import Column, table_name
from rsft.plugins.sweeps.paper.runs import TableRuns, Value
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
    is_whole = runs.sets == table.sets
    rows = []
    for row in table.rows:
        for column, paper in table.paper_values(row).items():
            set_name, measure = column
            if set_name not in runs.sets and (set_name or not is_whole):
                continue
            name = measure if len(runs.sets) == 1 else f"{set_name} {measure}".strip()
            printed = MISSING if paper is None else _number(paper, column)
            authors = _cell(column_values(runs, row, column, authors=True), column)
            ours = _cell(column_values(runs, row, column), column)
            rows.append([row, name, printed, authors, ours])
    return render_template(
        __package__,
        "page.md.jinja",
        title=f"{table_name(number)}: {table.title}",
        runs=runs,
        rows=rows,
    )


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
