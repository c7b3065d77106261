"""Write the tables of a page again from the results of studies.

    python -m tools.reproduction.result_tables docs/does-metapeft-help.md

A table lies between two comments. The first one names the study, the folder of its
results in docs/results/quality, and, if not all of them are wanted, the rows or the
group:

    <!-- accuracy mstar_lt from mstar_lt: LoRA; LoRA, best of 5 scales -->
    <!-- methods mstar_lt_methods from mstar_lt_methods: LoRA; small network -->
    <!-- spread mstar_lt_out from mstar_lt -->
    <!-- choice mstar_lt_choice from mstar_lt_choice -->
    <!-- end -->

"accuracy" compares rows with the base of the study. "methods" also has every group, CPU
seconds, and in parentheses the accuracy on all held-out chips where it differs by more
than a point; "macro" is the same without groups. "spread" has the macro and tail
accuracy at each value of the grid. "choice" has the accuracy on the chips on which
settings are chosen; the other kinds leave them out.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path

import pandas as pd

from rsft.utils.atomic_files import write_text
from tools.errors import explained_errors
from tools.reproduction.quality_files import CHOICE, GROUPS, WHOLE
from tools.reproduction.quality_results import (
    Results,
    corrected_p_values,
    differences,
    format_interval,
    format_p_value,
    read_results,
    row_results,
    spread_tables,
)
from tools.reproduction.quality_study import Study, read_study

ROOT = Path(__file__).parents[2]

_TABLE = re.compile(
    r"(<!-- (accuracy|methods|macro|spread|choice) (\w+) from (\w+)(?:: ([^>]+?))?"
    r" -->\n).*?(<!-- end -->)",
    re.DOTALL,
)


def fill_tables(text: str) -> str:
    """Return a page with its tables written again.

    Args:
        text: Markdown.
    """
    return _TABLE.sub(_fill, text)


def _fill(match: re.Match[str]) -> str:
    start, kind, study_name, folder, titles, end = match.groups()
    study, results = _read(study_name, folder)
    table = "spread" if kind == "spread" else "accuracy"
    if titles:
        selected = titles.split("; ")
    else:
        selected = [row.title for row in study.rows if table in row.tables]
    unknown = set(selected) - {row.title for row in study.rows}
    if unknown:
        raise SystemExit(f"{study_name} has no row {', '.join(sorted(unknown))}")
    lines = _LINES[kind](study, results, selected)
    return f"{start}\n" + "\n".join(lines) + f"\n\n{end}"


@cache
def _read(study_name: str, folder: str) -> tuple[Study, Results]:
    study = read_study(ROOT / f"tools/reproduction/studies/{study_name}.yaml")
    return study, read_results(ROOT / "docs/results/quality" / folder, study)


def accuracy_table(study: Study, results: Results, titles: list[str]) -> list[str]:
    """Return the lines of a table of some rows: accuracies, differences to the base of the study, and cost.

    Args:
        study: the study; p values are corrected over all its rows.
        results: its results.
        titles: titles of the rows.
    """
    tables = {
        row.title: row_results(study, row, results)
        for row in study.rows
        if "accuracy" in row.tables
    }
    p_values = corrected_p_values(study, tables)
    base_title = next(row.title for row in study.rows if row.base)
    base = tables[base_title]
    columns = (
        f"| seeds | macro | tail | macro, difference to {base_title} | tail, difference"
        " | CPU time |"
    )
    lines = [f"| method {columns}", "|---" * columns.count("|") + "|"]
    for title in titles:
        table = tables[title]
        cells = [
            str(len(table)),
            *(format_interval(table[group].to_numpy()) for group in ("macro", "tail")),
        ]
        for group in ("macro", "tail"):
            if title != base_title:
                text = format_interval(differences(table, base, group))
            else:
                text = ""
            p = p_values.get((title, group), 1.0)
            cells.append(f"{text} (p {format_p_value(p)})" if p < 0.2 else text)
        cells.append(f"{(table['seconds'] / base['seconds']).median():.2f}")
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return lines


def method_table(
    study: Study, results: Results, titles: list[str], groups: Sequence[str] = GROUPS
) -> list[str]:
    """Return the lines of a table of some rows: accuracy by group, difference to the base of the first row, and cost.

    In parentheses is the accuracy on all held-out chips, which early runs lack, where
    it differs by more than a point.

    Args:
        study: the study.
        results: its results.
        titles: titles of the rows.
        groups: the accuracies.
    """
    rows = {row.title: row for row in study.rows}
    heading = next(
        name for name, group in study.groups.items() if rows[titles[0]] in group
    )
    base_title = study.base_row(heading).title
    base = row_results(study, rows[base_title], results)
    lines = [
        f"| method | seeds | {' | '.join(groups)} | macro, difference to {base_title} |"
        " CPU s |"
    ]
    lines.append("|---" * (len(groups) + 4) + "|")
    for title in titles:
        table = row_results(study, rows[title], results)
        whole = row_results(study, rows[title], results, WHOLE)
        cells = [
            str(len(table)),
            *(_with_whole(table[group], whole[group]) for group in groups),
        ]
        cells.append(
            format_interval(differences(table, base, "macro"))
            if title != base_title
            else ""
        )
        cells.append("-" if table.empty else f"{table['seconds'].median():.0f}")
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return lines


def _with_whole(values: pd.Series, whole: pd.Series) -> str:
    text = format_interval(values.to_numpy())
    mean = whole.mean()
    if abs(mean - values.mean()) > 1:
        return f"{text} ({mean:.1f})"
    return text


def choice_table(study: Study, results: Results, titles: list[str]) -> list[str]:
    """Return the lines of a table of accuracy on the chips for choices: by seed, or at each value of a grid.

    Args:
        study: the study.
        results: its results.
        titles: titles of the rows.
    """
    rows = [row for row in study.rows if row.title in titles]
    if rows[0].grid:
        return spread_tables(study, rows, results, CHOICE)[1:]
    lines = [
        f"| macro / tail | {' | '.join(f'seed {seed}' for seed in study.seeds)} |"
        " mean |"
    ]
    lines.append("|---" * (len(study.seeds) + 2) + "|")
    for row in rows:
        table = row_results(study, row, results, CHOICE).reindex([*study.seeds])
        table.loc["mean"] = table.mean()
        pairs = zip(table["macro"], table["tail"], strict=True)
        cells = [
            "" if math.isnan(macro) else f"{macro:.1f} / {tail:.1f}"
            for macro, tail in pairs
        ]
        lines.append(f"| {row.title} | {' | '.join(cells)} |")
    return lines


def _spread_table(study: Study, results: Results, titles: list[str]) -> list[str]:
    return spread_tables(
        study, [row for row in study.rows if row.title in titles], results
    )[1:]


_LINES: dict[str, Callable[[Study, Results, list[str]], list[str]]] = {
    "accuracy": accuracy_table,
    "methods": method_table,
    "macro": partial(method_table, groups=("macro",)),
    "spread": _spread_table,
    "choice": choice_table,
}
"""What writes the lines of each kind of table."""


def main() -> None:
    """Write the tables of the pages that the command line names."""
    for name in sys.argv[1:]:
        path = Path(name)
        write_text(path, fill_tables(path.read_text("utf-8")))


if __name__ == "__main__":
    with explained_errors():
        main()
