"""Print tables of the paper in Markdown, with our numbers beside the paper's."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from rsft.plugins.sweeps.paper.cells import (
    Column,
    PaperTable,
    TableSettings,
    store_name,
    table_cells,
)
from rsft.plugins.sweeps.paper.runs import TableRuns
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
    unit = "accuracy in %, cosine distances; ± is the deviation of seeds"
    if table.only_counts_parameters:
        unit = "millions"
    rows = []
    for row in table.rows:
        cells = [row]
        for column, paper in table.paper_values(row).items():
            ours = cell_text(runs, row, column)
            cells.append(f"{ours} ({_number(paper, column)})")
        rows.append([*cells, _run_count(runs, row)])
    title = f"{table_name(number)}: {table.title}"
    legend = f"Ours (the paper's); {unit}"
    return _make_page(title, runs, legend, ["", *column_headings(table), "runs"], rows)


def comparison_markdown(number: str, runs: TableRuns) -> str:
    """Return the columns of one data set: paper, authors' code and rsft.

    Args:
        number: number of the table, such as "4".
        runs: its runs, of one set.
    """
    table = runs.table
    (set_name,) = table.sets
    legend = (
        "Accuracy in %, with the 95 % interval over the test chips, or ± the deviation"
        " of seeds. The authors' code has the chips, frozen weights, start, rates and"
        " batches of rsft, in float32; rsft evaluates both"
    )
    rows = []
    for row in table.rows:
        for column, paper in table.paper_values(row).items():
            if column[0]:
                authors = _interval_text(runs.intervals(row, *column, authors=True))
                ours = _interval_text(runs.intervals(row, *column))
                rows.append([row, column[1], _number(paper, column), authors, ours])
    title = f"{table_name(number)}, {set_name}: {table.title}"
    return _make_page(
        title, runs, legend, ["", "", "paper", "authors' code", "rsft"], rows
    )


def _make_page(
    title: str, runs: TableRuns, legend: str, headings: list[str], rows: list[list[str]]
) -> str:
    """Fill the template of a page, page.md.jinja."""
    paper_stores = []
    if runs.settings.base_recipe:
        for name in dict.fromkeys(cell.recipe for cell in table_cells(runs.table)):
            paper_stores.append(store_name(load_recipe(find_recipe(name))))
    return render_template(
        __package__,
        "page.md.jinja",
        title=title,
        runs=runs,
        legend=legend,
        headings=headings,
        rows=rows,
        data=data_names(runs),
        paper_data=dict.fromkeys(paper_stores),
        missing=dict.fromkeys(cell.recipe for cell, trials in runs.cells if not trials),
    )


def _interval_text(values: Sequence[tuple[float, ...]]) -> str:
    """Return value and interval of one run, or mean and deviation of several."""
    if not values:
        return NOT_RUN
    if len(values) == 1:
        return "{:.1f} [{:.1f}, {:.1f}]".format(*values[0])
    means = [value[0] for value in values]
    return f"{statistics.mean(means):.1f} ± {statistics.stdev(means):.1f}"


def overview_markdown(tables: Mapping[str, PaperTable], results: Path) -> str:
    """Return one line per table: title, what varies, data, planned and finished runs.

    Args:
        tables: tables by number.
        results: folder of the runs.
    """
    rows = []
    for number, table in tables.items():
        settings = TableSettings.read(results / f"table_{number}.json")
        runs = TableRuns(table, settings, results)
        done = str(runs.finished_count or NOT_RUN)
        if table.only_counts_parameters:
            done = "counted"
        cells = [table_name(number), table.title, table.varies, data_names(runs)]
        rows.append([*cells, str(runs.planned_count), done])
    headings = ["", "title", "varies", "data", "runs", "done"]
    return render_template(
        __package__, "page.md.jinja", runs=None, headings=headings, rows=rows
    )


def table_name(number: str) -> str:
    """Return the name of a table, such as "Table 2" or "Figure 1d".

    Args:
        number: number of the table, such as "2" or "Figure-1d".
    """
    if number.startswith("Figure"):
        return number.replace("-", " ")
    return f"Table {number}"


def column_headings(table: PaperTable) -> list[str]:
    """Return a heading per column: set and measure, without the one that all share."""
    sets = {name for name, _ in table.columns if name}
    measures = {measure for name, measure in table.columns if name}
    headings = []
    for name, measure in table.columns:
        if not name or len(sets) == 1:
            headings.append(measure)
        elif len(measures) == 1:
            headings.append(name)
        else:
            headings.append(f"{name} {measure}")
    return headings


def data_names(runs: TableRuns) -> str:
    """Return the names of the chip stores of all runs, separated by commas."""
    names = (store_name(trial.recipe) for trial in runs.trials)
    return ", ".join(dict.fromkeys(names))


def cell_text(runs: TableRuns, row: str, column: Column) -> str:
    """Return our number for a cell: the mean over its runs, with their deviation.

    A mean over sets has no deviation and needs runs in every set.

    Args:
        runs: runs of the table.
        row: name of the row.
        column: set and measure.
    """
    set_name, measure = column
    if not set_name:
        kind = runs.table.means[measure]
        means = []
        for member in runs.table.columns:
            if member[0] and kind in ("all", member[1]):
                values = runs.measured_values(row, *member)
                if not values:
                    return NOT_RUN
                means.append(statistics.mean(values))
        return _number(statistics.mean(means), column)
    values = runs.measured_values(row, set_name, measure)
    if not values:
        return NOT_RUN
    text = _number(statistics.mean(values), column)
    if len(values) > 1:
        text += f" ± {_number(statistics.stdev(values), column)}"
    return text


def _run_count(runs: TableRuns, row: str) -> str:
    """Return the number of runs per set, as "fewest-most" if it differs."""
    if runs.table.only_counts_parameters:
        return NOT_RUN
    counts = {len(runs.measured_values(row, name, "avg")) for name in runs.table.sets}
    return "-".join(map(str, sorted({min(counts), max(counts)})))


def _number(value: float | None, column: Column) -> str:
    if value is None:
        return MISSING
    set_name, measure = column
    digits = 1
    if measure.endswith("parameters"):
        digits = 3
    elif measure.startswith("distance") or not set_name:
        digits = 2
    return f"{value:.{digits}f}"
