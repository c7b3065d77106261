"""Print tables of the paper in Markdown, with our numbers beside the paper's."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from rsft.plugins.paper.cells import PaperTable, TableSettings, table_cells
from rsft.plugins.paper.runs import TableRuns
from rsft.recipe.library import find_recipe
from rsft.recipe.load import load_recipe

NOT_RUN = "-"
MISSING = "?"
Column = tuple[str, str]


def table_markdown(number: str, runs: TableRuns) -> str:
    """Return a table with its title and settings above it, and failed and missing runs below it.

    Args:
        number: number of the table, such as "S3".
        runs: its runs.
    """
    table = runs.table
    lines = [f"### {table_name(number)}: {table.title}", "", *_introduction(runs), ""]
    lines += [
        _line(["", *column_headings(table), "runs"]),
        _line(["---", *["---:"] * (len(table.columns) + 1)]),
    ]
    for row in table.rows:
        paper = table.paper_values(row)
        cells = [
            f"{cell_text(runs, row, column)} ({_number(paper[column], column)})"
            for column in table.columns
        ]
        lines.append(_line([row, *cells, _run_count(runs, row)]))
    return "\n".join([*lines, *_missing_results(runs)]) + "\n"


def comparison_markdown(number: str, runs: TableRuns) -> str:
    """Return the columns of one data set with one line per row and measure: paper, authors' code, rsft.

    Args:
        number: number of the table, such as "4".
        runs: its runs, of one set.
    """
    (set_name,) = runs.table.sets
    heading = f"### {table_name(number)}, {set_name}: {runs.table.title}"
    legend = (
        "Accuracy in %, with the 95 % interval over the test chips, or ± the deviation"
        " of seeds. The authors' code has the chips, frozen weights, start, rates and"
        " batches of rsft, in float32; rsft evaluates both"
    )
    lines = [
        heading,
        "",
        *_introduction(runs, legend),
        "",
        _line(["", "", "paper", "authors' code", "rsft"]),
    ]
    lines.append(_line(["---", "---", "---:", "---:", "---:"]))
    for row in runs.table.rows:
        paper = runs.table.paper_values(row)
        for column in (column for column in runs.table.columns if column[0]):
            printed = [
                MISSING if paper[column] is None else _number(paper[column], column)
            ]
            printed += [
                _interval_text(runs.intervals(row, *column, authors=authors))
                for authors in (True, False)
            ]
            lines.append(_line([row, column[1], *printed]))
    return "\n".join([*lines, *_missing_results(runs)]) + "\n"


def _interval_text(values: Sequence[tuple[float, ...]]) -> str:
    """Return value and interval of one run, or mean and standard deviation of several."""
    if not values:
        return NOT_RUN
    if len(values) == 1:
        value, low, high = values[0]
        return f"{value:.1f} [{low:.1f}, {high:.1f}]"
    means = [value for value, *_ in values]
    return f"{statistics.mean(means):.1f} ± {statistics.stdev(means):.1f}"


def overview_markdown(tables: Mapping[str, PaperTable], results: Path) -> str:
    """Return one line per table: its title, what it varies, its data, and the number of runs and of finished runs.

    Args:
        tables: tables by number.
        results: folder of the runs.
    """
    lines = [
        _line(["", "title", "varies", "data", "runs", "done"]),
        _line(["---"] * 4 + ["---:"] * 2),
    ]
    for number, table in tables.items():
        runs = TableRuns(
            table, TableSettings.read(results / f"table_{number}.json"), results
        )
        if table.only_counts_parameters:
            done = "counted"
        else:
            done = str(runs.finished_count or NOT_RUN)
        cells = [
            table_name(number),
            table.title,
            table.varies,
            data_names(runs),
            str(runs.planned_count),
            done,
        ]
        lines.append(_line(cells))
    return "\n".join(lines) + "\n"


def table_name(number: str) -> str:
    """Return the name of a table, such as "Table 2" or "Figure 1d".

    Args:
        number: number of the table, such as "2" or "Figure-1d".
    """
    if number.startswith("Figure"):
        return number.replace("-", " ")
    return f"Table {number}"


def column_headings(table: PaperTable) -> list[str]:
    """Return one heading per column: set and measure, without the one that all columns share.

    Args:
        table: a table of the paper.

    Returns:
        Headings in the order of the columns.
    """
    sets, measures = (
        set(names)
        for names in zip(
            *(column for column in table.columns if column[0]), strict=True
        )
    )
    differs = (len(sets) > 1, len(measures) > 1 or len(sets) == 1)
    return [
        (
            " ".join(
                name for name, is_shown in zip(column, differs, strict=True) if is_shown
            )
            if column[0]
            else column[1]
        )
        for column in table.columns
    ]


def data_names(runs: TableRuns) -> str:
    """Return the names of the chip stores of all runs, separated by commas.

    Args:
        runs: runs of a table.
    """
    roots = (trial.recipe.data.root for _, trials in runs.cells for trial in trials)
    return ", ".join(dict.fromkeys(Path(root).name for root in roots))


def cell_text(runs: TableRuns, row: str, column: Column) -> str:
    """Return our number for a cell: the mean over its runs, with the standard deviation of two or more runs.

    A mean over sets has no deviation and needs runs in every set.

    Args:
        runs: runs of the table.
        row: name of the row.
        column: set and measure.
    """
    set_name, measure = column
    if set_name:
        values = runs.measured_values(row, set_name, measure)
        if len(values) > 1:
            spread = f" ± {_number(statistics.stdev(values), column)}"
        else:
            spread = ""
        if values:
            return f"{_number(statistics.mean(values), column)}{spread}"
        return NOT_RUN
    kind = runs.table.means[measure]
    members = [
        member
        for member in runs.table.columns
        if member[0] and kind in ("all", member[1])
    ]
    values_by_member = [runs.measured_values(row, *member) for member in members]
    if not all(values_by_member):
        return NOT_RUN
    return _number(statistics.mean(map(statistics.mean, values_by_member)), column)


def _run_count(runs: TableRuns, row: str) -> str:
    """Return the number of runs per set, as "fewest-most" if it differs."""
    if runs.table.only_counts_parameters:
        return NOT_RUN
    counts = sorted(
        {len(runs.measured_values(row, name, "avg")) for name in runs.table.sets}
    )
    return "-".join(map(str, dict.fromkeys((counts[0], counts[-1]))))


def _introduction(runs: TableRuns, text: str = "") -> Iterator[str]:
    """Iterate over the paragraphs above a table; `text` replaces the explanation of its cells."""
    settings = runs.settings
    table = runs.table
    if not table.only_counts_parameters and settings.base_recipe:
        recipe = next(trial.recipe for _, trials in runs.cells for trial in trials)
        data = recipe.data
        train = recipe.train
        yield (
            "**Another network on other data: not a reproduction of the paper.** Ours:"
            f" {recipe.backbone.name} on {data_names(runs)} at {data.size} px,"
            f" {train.epochs} epochs of batch {train.batch_size}; the paper's:"
            f" {', '.join(paper_data_names(table))}.\n"
        )
    if not table.only_counts_parameters and settings.overrides:
        if settings.base_recipe:
            base = f"`{settings.base_recipe}` with its method"
        else:
            base = "used as shipped"
        yield (
            f"Every recipe is {base}, except for"
            f" {' '.join(f'`{key}`' for key in settings.overrides)}.\n"
        )
    if table.only_counts_parameters:
        unit = "millions"
    else:
        unit = "accuracy in %, cosine distances; ± is the deviation of seeds"
    legend = (
        f"{NOT_RUN}: not run. {MISSING}: not printed in the paper, or missing from our"
        " copy of its text."
    )
    cells = text or f"Ours (the paper's); {unit}"
    yield f"{cells}. {legend} {table.note}".rstrip()


def paper_data_names(table: PaperTable) -> list[str]:
    """Return the names of the chip stores in the paper's recipes.

    Args:
        table: a table of the paper.

    Returns:
        Names in the order of the columns.
    """
    recipes = dict.fromkeys(cell.recipe for cell in table_cells(table))
    roots = (load_recipe(find_recipe(name)).data.root for name in recipes)
    return list(dict.fromkeys(Path(root).name for root in roots))


def _missing_results(runs: TableRuns) -> Iterator[str]:
    """Iterate over the reasons for cells without numbers."""
    missing = dict.fromkeys(cell.recipe for cell, trials in runs.cells if not trials)
    if missing:
        yield f"\nrsft has no recipe of this name: {', '.join(missing)}."
    for failure in runs.failures():
        yield f"\nFailed: {failure}"


def _number(value: float | None, column: Column) -> str:
    if value is None:
        return MISSING
    set_name, measure = column
    if measure.endswith("parameters"):
        digits = 3
    else:
        if measure.startswith("distance") or not set_name:
            digits = 2
        else:
            digits = 1
    return f"{value:.{digits}f}"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
