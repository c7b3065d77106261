"""The tables of the paper in Markdown, ours beside the paper's."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from rsft.recipe.library import find_recipe
from rsft.recipe.load import load_recipe
from tools.reproduction.paper_cells import Asked, PaperTable, cells_of
from tools.reproduction.paper_runs import TableRuns

NOT_RUN, LOST = "-", "?"
Column = tuple[str, str]


def markdown(number: str, runs: TableRuns) -> str:
    """The table, with what it is above it and what is missing below."""
    table = runs.table
    lines = [f"### {name_of(number)}: {table.title}", "", *_about(runs), ""]
    lines += [_line(["", *heads(table), "runs"]), _line(["---", *["---:"] * (len(table.columns) + 1)])]
    for row in table.rows:
        paper = table.paper(row)
        cells = [f"{ours(runs, row, column)} ({_number(paper[column], column)})" for column in table.columns]
        lines.append(_line([row, *cells, _runs_of(runs, row)]))
    return "\n".join([*lines, *_left_out(runs)]) + "\n"


def overview(tables: Mapping[str, PaperTable], results: Path) -> str:
    """Every table: what it varies, on what data, how many runs it takes, and how many of them RESULTS holds."""
    lines = [_line(["", "what", "varies", "data", "runs", "done"]), _line(["---"] * 4 + ["---:"] * 2)]
    for number, table in tables.items():
        runs = TableRuns(table, Asked.read(results / f"table_{number}.json"), results)
        done = "counted" if table.is_counted else str(runs.done or NOT_RUN)
        lines.append(_line([name_of(number), table.title, table.varies, data_of(runs), str(runs.planned), done]))
    return "\n".join(lines) + "\n"


def name_of(number: str) -> str:
    """ "Table 2", "Figure 1d"."""
    return number.replace("-", " ") if number.startswith("Figure") else f"Table {number}"


def heads(table: PaperTable) -> list[str]:
    """Of the columns: set and measure, but for what all have in common."""
    sets, measures = (set(each) for each in zip(*(column for column in table.columns if column[0]), strict=True))
    shown = (len(sets) > 1, len(measures) > 1 or len(sets) == 1)
    return [
        " ".join(part for part, some in zip(column, shown, strict=True) if some) if column[0] else column[1]
        for column in table.columns
    ]


def data_of(runs: TableRuns) -> str:
    """The folders of prepared data, by name."""
    roots = (trial.recipe.data.root for _, trials in runs.cells for trial in trials)
    return ", ".join(dict.fromkeys(Path(root).name for root in roots))


def ours(runs: TableRuns, row: str, column: Column) -> str:
    """Mean over the runs of a cell, with their standard deviation where there are several; of a mean over sets, the
    mean alone, where every set has been run.
    """
    name, measure = column
    if name:
        values = runs.values(row, name, measure)
        spread = f" ± {_number(statistics.stdev(values), column)}" if len(values) > 1 else ""
        return f"{_number(statistics.mean(values), column)}{spread}" if values else NOT_RUN
    kind = runs.table.means[measure]
    parts = [runs.values(row, *part) for part in runs.table.columns if part[0] and kind in ("all", part[1])]
    return _number(statistics.mean(map(statistics.mean, parts)), column) if all(parts) else NOT_RUN


def _runs_of(runs: TableRuns, row: str) -> str:
    """Of a set, from the fewest to the most."""
    if runs.table.is_counted:
        return NOT_RUN
    counts = sorted({len(runs.values(row, name, "avg")) for name in runs.table.sets})
    return "-".join(map(str, dict.fromkeys((counts[0], counts[-1]))))


def _about(runs: TableRuns) -> Iterator[str]:
    asked, table = runs.asked, runs.table
    if not table.is_counted and asked.on:
        recipe = next(trial.recipe for _, trials in runs.cells for trial in trials)
        data, train = recipe.data, recipe.train
        yield (
            f"**Another network on other data: no reproduction of the paper.** Ours: {recipe.backbone.name} on "
            f"{data_of(runs)} at {data.size} px, {train.epochs} epochs of batch {train.batch_size}; the paper's: "
            f"{', '.join(paper_data(table))}.\n"
        )
    if not table.is_counted and asked.overrides:
        base = f"is `{asked.on}` with its method" if asked.on else "is as shipped"
        yield f"Every recipe {base}, but for {' '.join(f'`{key}`' for key in asked.overrides)}.\n"
    unit = "millions" if table.is_counted else "accuracy in %, distances as they are; ± is the deviation over seeds"
    marks = f"{NOT_RUN}: not run. {LOST}: not printed, or lost in the text at hand."
    yield f"Ours (the paper's); {unit}. {marks} {table.note}".rstrip()


def paper_data(table: PaperTable) -> list[str]:
    """The data of the paper's columns, by the recipes."""
    recipes = dict.fromkeys(cell.recipe for cell in cells_of(table))
    roots = (load_recipe(find_recipe(name)).data.root for name in recipes)
    return list(dict.fromkeys(Path(root).name for root in roots))


def _left_out(runs: TableRuns) -> Iterator[str]:
    """What has no number, and why."""
    missing = dict.fromkeys(cell.recipe for cell, trials in runs.cells if not trials)
    if missing:
        yield f"\nNo such recipe comes with rsft: {', '.join(missing)}."
    for failure in runs.failures():
        yield f"\nFailed: {failure}"


def _number(value: float | None, column: Column) -> str:
    if value is None:
        return LOST
    name, measure = column
    digits = 3 if measure.endswith("parameters") else 2 if measure.startswith("distance") or not name else 1
    return f"{value:.{digits}f}"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
