"""Read the results of a study, and print its tables in Markdown.

Settings are chosen on one half of the held-out chips, and tables report the other half.
Rows with several configurations choose one per seed by macro accuracy on the first
half.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import t, ttest_1samp

from tools.reproduction.quality_files import (
    CHOICE,
    GROUPS,
    REPORTED,
    Result,
    parse_result,
    result_texts,
)
from tools.reproduction.quality_study import Row, Study

Floats = NDArray[np.floating[Any]]
COMPARED = ("tail", "macro")
"""Accuracies that are compared with the base row."""

PARTS = {
    "choice": "on the held-out chips on which settings are chosen",
    "reported": "on the held-out chips on which nothing was chosen",
    "whole": "on all held-out chips",
}
"""What a table measures, by the name of the part; in the order of `CHOICE`, `REPORTED`
and `WHOLE` of the files."""


class Results(NamedTuple):
    """Results of a folder.

    Attributes:
        runs: results by identity and seed, only those of the study.
        unused: names of the results that are not used, by reason.
    """

    runs: dict[tuple[str, int], Result]
    unused: dict[str, list[str]]


def read_results(out: Path, study: Study, part: int = REPORTED) -> Results:
    """Read the results of a study.

    Those of other settings are stale: they are listed, but not used.

    Args:
        out: folder of the results.
        study: the study.
        part: the part of the held-out chips that is needed; files of early runs have no
            recall on `WHOLE`.

    Returns:
        Usable results, and the names of all others.
    """
    results = Results({}, {})
    identities = cache(
        lambda seed: {
            run.identity
            for row in study.rows
            for run in study.configurations(row, seed)
        }
    )
    for name, text in result_texts(out):
        try:
            result = parse_result(text)
            if result.identity not in identities(result.seed):
                result = result.with_current_keys()
        except (ValueError, TypeError, KeyError) as error:
            if isinstance(error, KeyError):
                reason = f"stale: no key {error}"
            else:
                reason = f"stale: {error}"
        else:
            if result.identity not in identities(result.seed):
                reason = "stale: overrides that no row of the study has"
            elif result.seed not in study.seeds:
                reason = "seed not selected"
            elif len(result.recall) <= part:
                reason = "stale: no recall on the whole split"
            elif (result.identity, result.seed) in results.runs:
                reason = "another file has the same run"
            else:
                results.runs[result.identity, result.seed] = result
                continue
        results.unused.setdefault(reason, []).append(name)
    return results


def row_results(
    study: Study, row: Row, results: Results, part: int = REPORTED
) -> pd.DataFrame:
    """Return the accuracy of a row on a part of the held-out chips, for each seed of which all runs are finished.

    Args:
        study: the study.
        row: its row.
        results: results of the study.
        part: `CHOICE`, `REPORTED` or `WHOLE`.

    Returns:
        Rows by seed: head, medium, tail and macro in %; `seconds` is the sum over all
            configurations.
    """
    records: dict[int, dict[str, float]] = {}
    for seed, runs in complete_seeds(study, row, results).items():
        # the first one of equals
        best = max(runs, key=lambda run: run.accuracy(CHOICE)["macro"])
        records[seed] = best.accuracy(part) | {
            "seconds": math.fsum(run.seconds for run in runs)
        }
    return pd.DataFrame.from_dict(
        records, orient="index", columns=[*GROUPS, "seconds"], dtype=float
    )


def complete_seeds(study: Study, row: Row, results: Results) -> dict[int, list[Result]]:
    """Return the results of a row by seed, in the order of its configurations, without incomplete seeds.

    Args:
        study: the study.
        row: its row.
        results: results of the study.
    """
    runs = {
        seed: [
            results.runs.get((configuration.identity, seed))
            for configuration in study.configurations(row, seed)
        ]
        for seed in study.seeds
    }
    return {
        seed: [run for run in entries if run]
        for seed, entries in runs.items()
        if all(entries)
    }


def half_width(values: Floats) -> float:
    """Return half the width of the 95 % interval of the mean (Student's t); NaN for fewer than two values.

    Args:
        values: (N,), one value per seed.
    """
    if len(values) < 2:
        return math.nan
    return float(
        t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5
    )


def paired_p_value(differences: Floats) -> float:
    """Return the two-sided p value of the paired t-test; NaN for fewer than two differences.

    Args:
        differences: (N,), one difference per seed.
    """
    if len(differences) < 2:
        return math.nan
    # the limit; the test divides by the standard deviation
    if np.ptp(differences) == 0:
        if differences[0]:
            return 0.0
        return 1.0
    return float(ttest_1samp(differences, 0).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p values for several comparisons (Holm 1979); a NaN stays NaN and is no comparison.

    Args:
        p_values: uncorrected p values.

    Returns:
        Corrected p values in the same order.
    """
    order = sorted((p, index) for index, p in enumerate(p_values) if not math.isnan(p))
    corrected = [math.nan] * len(p_values)
    largest = 0.0
    for rank, (p, index) in enumerate(order):
        largest = max(largest, min(1.0, p * (len(order) - rank)))
        corrected[index] = largest
    return corrected


def report_markdown(study: Study, results: Results, part: str = "reported") -> str:
    """Return all tables of a study.

    Args:
        study: the study.
        results: its results.
        part: the measured part of the held-out chips, a key of `PARTS`.
    """
    number = list(PARTS).index(part)
    tables = {
        row.title: row_results(study, row, results, number)
        for row in study.rows
        if "accuracy" in row.tables
    }
    p_values = corrected_p_values(study, tables)
    parts = [f"# {study.title}", "", *footer(study, results, part)]
    for heading in study.groups:
        parts += ["", f"## {heading}"]
        parts += (
            ["", *accuracy_table(study, heading, tables, p_values)]
            if tables.keys() & _titles(study, heading)
            else []
        )
        spreads = [row for row in study.groups[heading] if "spread" in row.tables]
        for _, rows in itertools.groupby(
            spreads, key=lambda row: (row.grid, row.without)
        ):
            parts += spread_tables(study, list(rows), results, number)
    return "\n".join(parts)


def _titles(study: Study, heading: str) -> set[str]:
    return {row.title for row in study.groups[heading]}


def differences(table: pd.DataFrame, base: pd.DataFrame, group: str) -> Floats:
    """Return the differences of a row to its base, for the seeds that both have.

    Args:
        table: accuracies of the row by seed.
        base: accuracies of the base by seed.
        group: the compared accuracy.
    """
    return (table[group] - base[group]).dropna().to_numpy()


def corrected_p_values(
    study: Study, tables: Mapping[str, pd.DataFrame]
) -> dict[tuple[str, str], float]:
    """Return p values of all rows against their base; tail and macro are corrected separately, over all rows.

    Args:
        study: the study.
        tables: accuracies of each row by its title.

    Returns:
        p values by title and accuracy.
    """
    if tables:
        bases = {
            row.title: study.base_row(heading).title
            for heading, rows in study.groups.items()
            for row in rows
        }
    else:
        bases = {}
    titles = [title for title in tables if bases[title] != title]
    p_values: dict[tuple[str, str], float] = {}
    for group in COMPARED:
        raw = [
            paired_p_value(differences(tables[title], tables[bases[title]], group))
            for title in titles
        ]
        p_values |= {
            (title, group): p for title, p in zip(titles, holm(raw), strict=True)
        }
    return p_values


def accuracy_table(
    study: Study,
    heading: str,
    tables: Mapping[str, pd.DataFrame],
    p_values: Mapping[tuple[str, str], float],
) -> list[str]:
    """Return the lines of a table: accuracies, differences to the base, corrected p values, and cost.

    Args:
        study: the study.
        heading: heading of the group.
        tables: accuracies of each row by its title.
        p_values: p values by title and accuracy.
    """
    base_title = study.base_row(heading).title
    base = tables[base_title]
    compared = " | ".join(
        f"{group} - {group} of {base_title} | p" for group in COMPARED
    )
    lines = _head(
        f" | seeds | {' | '.join(GROUPS)} | pairs | {compared} | CPU s per seed | x"
        " base "
    )
    for title in (row.title for row in study.groups[heading] if row.title in tables):
        table = tables[title]
        cells = [
            f"{len(table)} of {len(study.seeds)}",
            *(format_interval(table[group].to_numpy()) for group in GROUPS),
        ]
        if title == base_title:
            cells += [""] * (1 + 2 * len(COMPARED))
        else:
            cells.append(str(len(table.index.intersection(base.index))))
            for group in COMPARED:
                cells += [
                    format_interval(differences(table, base, group)),
                    format_p_value(p_values[title, group]),
                ]
        ratio = (table["seconds"] / base["seconds"]).median()
        cells += [_number(table["seconds"].median(), ".0f"), _number(ratio, ".2f")]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return lines


def spread_tables(
    study: Study, rows: Sequence[Row], results: Results, part: int = REPORTED
) -> list[str]:
    """Return the lines of tables of accuracy at each grid value, for rows with the same grid.

    A grid with two keys gives one matrix of mean macro accuracy per row.

    Args:
        study: the study.
        rows: rows with the same grid.
        results: results of the study.
        part: `CHOICE`, `REPORTED` or `WHOLE`.
    """
    axes = list(rows[0].grid.items())
    points = rows[0].grid_points()
    lines = [""]
    if len(axes) == 1:
        lines += _head(
            f" {axes[0][0]} | seeds | | {' | '.join(str(value) for (value,) in points)}"
            " | best - worst "
        )
    for row in rows:
        seeds = complete_seeds(study, row, results)
        count = f"{len(seeds)} of {len(study.seeds)}"
        for group in ("macro", "tail") if len(axes) == 1 else ("macro",):
            values = np.array(
                [[run.accuracy(part)[group] for run in runs] for runs in seeds.values()]
            )
            values = values.reshape(len(seeds), len(points))
            spread = format_interval(np.ptp(values, axis=1))
            if len(axes) == 1:
                lines.append(
                    f"| {row.title} | {count} | {group} |"
                    f" {' | '.join(map(format_interval, values.T))} | {spread} |"
                )
            else:
                lines += _matrix(row, axes, values)
                lines += [
                    "",
                    f"{row.title}: macro, best - worst: {spread}; seeds: {count}.",
                ]
    return lines


def _matrix(row: Row, axes: list[tuple[str, list[Any]]], values: Floats) -> list[str]:
    (row_key, row_values), (column_key, column_values) = axes
    lines = _head(
        f" {row.title}: {row_key} \\ {column_key} |"
        f" {' | '.join(map(str, column_values))} "
    )
    if len(values):
        means = values.mean(axis=0)
    else:
        means = np.full(values.shape[1], np.nan)
    by_point = dict(zip(row.grid_points(), means, strict=True))
    for value in row_values:
        cells = [
            _number(by_point.get((value, other), math.nan), ".1f")
            for other in column_values
        ]
        lines.append(f"| {value} | {' | '.join(cells)} |")
    return lines


def footer(study: Study, results: Results, part: str) -> list[str]:
    """Return lines on what the numbers are, which runs are missing, and which version did them.

    Args:
        study: the study.
        results: its results.
        part: the measured part of the held-out chips, a key of `PARTS`.
    """
    needed = {
        (c.identity, seed)
        for seed in study.seeds
        for row in study.rows
        for c in study.configurations(row, seed)
    }
    sources = Counter(run.source for run in results.runs.values())
    compared = sum("accuracy" in row.tables and not row.base for row in study.rows)
    lines = [
        (
            f"Accuracy in %, {PARTS[part]}, as mean ± half width of the 95 % interval"
            " of Student's t over seeds."
        ),
        (
            "Differences are paired by seed; p values are of paired t-tests, corrected"
            f" over {compared} rows (Holm)."
        ),
        (
            "CPU s is the median over seeds of the sum over all runs of a row. A run"
            " that several rows use counts in each."
        ),
        f"Runs: {len(results.runs)} of {len(needed)}.",
    ]
    lines += [f"- {count} runs: {source}" for source, count in sorted(sources.items())]
    no_chips = {
        c
        for run in results.runs.values()
        for recall in run.recall
        for c, v in enumerate(recall)
        if v is None
    }
    lines += (
        [
            f"- {len(no_chips)} classes have no chips in one half, whose means leave"
            " them out"
        ]
        if no_chips
        else []
    )
    lines += [
        f"- {len(files)} result files not used: {reason}"
        for reason, files in sorted(results.unused.items())
    ]
    return lines


def _head(cells: str) -> list[str]:
    return [f"|{cells}|", "|---" * (cells.count("|") + 1) + "|"]


def _number(value: float, form: str) -> str:
    if math.isnan(value):
        return "-"
    return format(value, form)


def format_interval(values: Floats) -> str:
    """Return the mean and the half width of its 95 % interval; NaN is no value.

    Args:
        values: (N,), one value per seed.
    """
    values = values[~np.isnan(values)]
    if not len(values):
        return "-"
    width = half_width(values)
    return f"{values.mean():.1f}" + ("" if math.isnan(width) else f" ± {width:.1f}")


def format_p_value(p: float) -> str:
    """Return a p value with three digits."""
    if p < 0.001:
        return "< 0.001"
    return _number(p, ".3f")
