"""Compare the signs of outer signals with the measured effect of larger scales, and print tables in Markdown."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.stats import rankdata

from tools.reproduction.signal_runs import (
    SIGNED,
    UNSIGNED,
    SignalRun,
    SignalStudy,
    Start,
    perturbed_runs,
    read_signal_result,
    site_groups,
    site_pattern,
)

CONSTANT = "always larger"
"""Row of a signal that is always positive, with which the others are to be compared."""


class Comparison(NamedTuple):
    """Truth and signals of a group of sites.

    Attributes:
        start: the start of the runs.
        kind: "all", "positions" or "blocks".
        group: name of the group.
        truth: final loss with smaller scales minus final loss with larger scales; positive if larger scales help.
        signals: sums over the sites of the group, by signal.
    """

    start: Start
    kind: str
    group: str
    truth: float
    signals: dict[str, float]


class StartResult(NamedTuple):
    """Results of a start: the unperturbed run, and the comparisons whose runs are finished."""

    start: Start
    loss: float
    accuracy: float
    comparisons: list[Comparison]


class StudyResults(NamedTuple):
    """All results of a study, and the numbers of its runs that are finished and expected."""

    starts: list[StartResult]
    finished: int
    expected: int


def read_signal_results(study: SignalStudy, out: Path) -> StudyResults:
    """Read the results of a study; files of other settings have other names and are not read.

    Args:
        study: the study.
        out: folder of the results.

    Returns:
        The starts whose unperturbed run is finished.

    Raises:
        DataError: a file is not a result.
        RecipeError: the recipe is not valid.
        RequestError: the recipe does not suit the test.
    """
    results, sites = [], read_sites(study, out)
    groups = study.groups(sites)
    kinds = {group: kind for kind, names in site_groups(sites).items() for group in names} if sites else {}
    starts = study.starts()
    finished = sum(run.result_file(out).exists() for start in starts for run in all_runs(start, groups))
    for start in starts:
        base = read_signal_result(SignalRun(start).result_file(out))
        if base is None:
            continue
        result = StartResult(start, base.loss, base.accuracy, [])
        for group in groups:
            larger, smaller = (read_signal_result(run.result_file(out)) for run in perturbed_runs(start, [group]))
            if larger and smaller:
                members = [index for index, site in enumerate(base.sites) if fnmatchcase(site, site_pattern(group))]
                signals = {name: float(sum(np.array(x)[members])) for name, x in base.signals.items()}
                truth = smaller.loss - larger.loss
                result.comparisons.append(
                    Comparison(start, kinds.get(group, "all"), group, truth, {CONSTANT: 1.0} | signals)
                )
        results.append(result)
    return StudyResults(results, finished, len(starts) * (1 + 2 * len(groups)))


def all_runs(start: Start, groups: Sequence[str]) -> list[SignalRun]:
    """Return the unperturbed run and all perturbed runs of a start.

    Args:
        start: settings without the perturbation.
        groups: names of groups.
    """
    return [SignalRun(start), *perturbed_runs(start, groups)]


def read_sites(study: SignalStudy, out: Path) -> list[str]:
    """Return the sites of a finished run; an empty list if no unperturbed run is finished.

    Args:
        study: the study.
        out: folder of the results.

    Returns:
        Names of the sites.

    Raises:
        DataError: a file is not a result.
        RecipeError: the recipe is not valid.
        RequestError: the recipe does not suit the test.
    """
    results = (read_signal_result(SignalRun(start).result_file(out)) for start in study.starts())
    return next((result.sites for result in results if result is not None), [])


def agreement(comparisons: Iterable[Comparison], signal: str) -> str:
    """Return the share of comparisons in which signal and truth have the same sign.

    Args:
        comparisons: the comparisons.
        signal: name of the signal.

    Returns:
        Percent and number of comparisons, such as "75 (12)"; "-" for none.
    """
    agrees = [(x.truth > 0) == (x.signals[signal] > 0) for x in comparisons if signal in x.signals]
    return f"{100 * np.mean(agrees):.0f} ({len(agrees)})" if agrees else "-"


def rank_correlation(comparisons: Iterable[Comparison], signal: str) -> str:
    """Return Spearman's rank correlation of signal and truth over the positions, and over the blocks, of a start.

    Args:
        comparisons: the comparisons.
        signal: name of the signal.

    Returns:
        Mean over starts and kinds of groups, and their number, such as "0.40 (12)"; "-" for none.
    """
    pairs = defaultdict(list)
    for comparison in comparisons:
        if comparison.kind != "all" and signal in comparison.signals:
            pairs[comparison.start, comparison.kind].append((comparison.truth, comparison.signals[signal]))
    ranks = [rankdata(values, axis=0).T for values in pairs.values() if len(values) > 2]
    correlations = [np.corrcoef(x)[0, 1] for x in ranks if np.ptp(x, axis=1).all()]
    return f"{np.mean(correlations):.2f} ({len(correlations)})" if correlations else "-"


def report_markdown(results: StudyResults, clear: float) -> str:
    """Return the tables of a study.

    Args:
        results: its results.
        clear: smallest absolute difference of the final losses that counts as a clear truth.

    Returns:
        Markdown.
    """
    comparisons = [x for start in results.starts for x in start.comparisons]
    lines = ["## Agreement of signs", "", *agreement_table(comparisons, clear), ""]
    lines += ["## Truth", "", *truth_table(results.starts), ""]
    return "\n".join([*lines, f"Runs: {results.finished} of {results.expected}."])


def agreement_table(comparisons: Sequence[Comparison], clear: float) -> Iterator[str]:
    """Iterate over the lines of the table of signals.

    Args:
        comparisons: all comparisons.
        clear: smallest absolute difference of the final losses that counts as a clear truth.

    Yields:
        Lines of Markdown.
    """
    columns: dict[str, Callable[[Comparison], bool]] = {
        "all sites": lambda x: x.kind == "all",
        "groups": lambda x: x.kind != "all",
        f"clear groups, abs(truth) > {clear:g}": lambda x: x.kind != "all" and abs(x.truth) > clear,
    }
    for scale in dict.fromkeys(x.start.scale for x in comparisons):
        columns[f"start {scale:g}"] = partial(_starts_at, scale)
    yield "Share of comparisons in which signal and truth have the same sign, in % (number). Groups are the positions"
    yield "and the blocks; a start counts all sites and groups. Rank correlation: Spearman's, of signal and truth over"
    yield "the positions and over the blocks of a start, mean (number of starts and kinds)."
    yield ""
    yield f"| signal | {' | '.join(columns)} | rank correlation |"
    yield "|---" * (len(columns) + 2) + "|"
    recorded = {name for x in comparisons for name in x.signals}
    for signal in (CONSTANT, *SIGNED, *UNSIGNED):
        if signal in recorded:
            selections = [filter(is_selected, comparisons) for is_selected in columns.values()]
            shares = ["" if signal in UNSIGNED else agreement(selection, signal) for selection in selections]
            yield f"| {signal} | {' | '.join(shares)} | {rank_correlation(comparisons, signal)} |"


def _starts_at(scale: float, comparison: Comparison) -> bool:
    return comparison.start.scale == scale


def truth_table(starts: Sequence[StartResult]) -> Iterator[str]:
    """Iterate over the lines of the table of truths.

    Args:
        starts: results by start.

    Yields:
        Lines of Markdown.
    """
    groups = list(dict.fromkeys(x.group for start in starts for x in start.comparisons))
    yield "Final loss with smaller scales of the group minus final loss with larger scales; positive: larger scales"
    yield "help. Loss and macro accuracy (%) are those of the unperturbed run."
    yield ""
    yield f"| {' | '.join(['optimizer', 'seed', 'start', 'loss', 'accuracy', *groups])} |"
    yield "|---" * (len(groups) + 5) + "|"
    for result in starts:
        start, truths = result.start, {x.group: f"{x.truth:.3f}" for x in result.comparisons}
        cells = [str(start.optimizer), start.seed, f"{start.scale:g}", f"{result.loss:.3f}"]
        cells += [f"{100 * result.accuracy:.1f}", *(truths.get(group, "-") for group in groups)]
        yield f"| {' | '.join(map(str, cells))} |"
