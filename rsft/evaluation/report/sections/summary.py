"""Describe the accuracy of a run in sentences: what it gains and what it loses against the baselines."""

from __future__ import annotations

from functools import partial

from rsft.evaluation.report.formatting import format_percent, points_apart, signed_points
from rsft.evaluation.schema import Evaluation
from rsft.metrics.accuracy import AccuracySummary
from rsft.metrics.bootstrap import Interval
from rsft.types import GROUPS

_COMPARED = {"micro": "overall"} | {group: group for group in GROUPS}


def summary_sentences(evaluation: Evaluation) -> list[str]:
    """Describe the accuracy of a run, compared with the best baseline of each group.

    Args:
        evaluation: evaluation of the run.

    Returns:
        Overall accuracy, the accuracy of every group with chips, and the weakest class.
    """
    summary = evaluation.summary
    chips = f"{evaluation.count:,} {evaluation.split} chips"
    overall = f"{evaluation.method} classifies {_with_unit(summary.micro.value)} of {chips} correctly"
    sentences = [f"{overall}{_compare_with_best(evaluation, 'micro')}."]
    for group in filter(partial(getattr, summary), GROUPS):
        name = f"For the {group} classes, it is" if len(sentences) > 1 else f"The mean recall of the {group} classes is"
        recall = _with_unit(getattr(summary, group).value)
        sentences.append(f"{name} {recall}{_compare_with_best(evaluation, group)}.")
    index, worst = summary.worst
    return [*sentences, f"The weakest class is {evaluation.classes[index]} (recall {_with_unit(worst)})."]


def gains_and_losses(evaluation: Evaluation) -> list[tuple[str, str]]:
    """Return what the run gains or loses against each baseline, in points.

    Args:
        evaluation: evaluation of the run.

    Returns:
        Name of each baseline, and the differences of overall accuracy and of every group.
    """
    return [(name, _differences(evaluation.summary, baseline)) for name, baseline in evaluation.baselines.items()]


def _differences(run: AccuracySummary, baseline: AccuracySummary) -> str:
    pairs = {label: (getattr(run, name), getattr(baseline, name)) for name, label in _COMPARED.items()}
    differences = [f"{label} {signed_points(x.value, y.value)}" for label, (x, y) in pairs.items() if x and y]
    return ", ".join(differences)


def best_baseline(evaluation: Evaluation, measure: str) -> tuple[str, Interval] | None:
    """Return the baseline with the highest value of a measure.

    Args:
        evaluation: evaluation of the run.
        measure: attribute of `AccuracySummary` that has an interval, such as "micro".

    Returns:
        Name and value; None if no baseline has this measure.
    """
    values = {name: getattr(summary, measure) for name, summary in evaluation.baselines.items()}
    defined = {name: interval for name, interval in values.items() if interval is not None}
    return max(defined.items(), key=lambda item: item[1].value) if defined else None


def intervals_overlap(first: Interval, second: Interval) -> bool:
    """Return whether two intervals have a value in common."""
    return first.low <= second.high and second.low <= first.high


def _compare_with_best(evaluation: Evaluation, measure: str) -> str:
    best = best_baseline(evaluation, measure)
    if best is None:
        return ""
    name, baseline = best
    run: Interval = getattr(evaluation.summary, measure)
    overlap = "; the intervals overlap" if intervals_overlap(run, baseline) else ""
    return f", {points_apart(run.value, baseline.value)} the best baseline ({name}{overlap})"


def _with_unit(value: float) -> str:
    return f"{format_percent(value)}\N{NO-BREAK SPACE}%"
