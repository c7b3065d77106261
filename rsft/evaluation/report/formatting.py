"""Format numbers, and describe the accuracy of a run in sentences."""

from __future__ import annotations

from collections.abc import Sequence

from rsft.evaluation.schema import Evaluation
from rsft.metrics.bootstrap import Interval
from rsft.types import GROUPS


def summary_sentences(evaluation: Evaluation) -> list[str]:
    """Describe the accuracy of a run in two or three sentences, compared with the best baseline.

    Args:
        evaluation: evaluation of the run.

    Returns:
        Overall accuracy, accuracy of the rarest group if there are groups, and the weakest class.
    """
    summary = evaluation.summary
    chips = f"{evaluation.count:,} {evaluation.split} chips"
    overall = f"{evaluation.method} classifies {_with_unit(summary.micro.value)} of {chips} correctly"
    sentences = [f"{overall}{_compare_with_baseline(evaluation, 'micro')}."]
    rarest = next((group for group in reversed(GROUPS) if getattr(summary, group)), None)
    if rarest:
        group_recall = f"The mean recall of the {rarest} classes is {_with_unit(getattr(summary, rarest).value)}"
        sentences.append(f"{group_recall}{_compare_with_baseline(evaluation, rarest)}.")
    index, recall = summary.worst
    return [*sentences, f"The weakest class is {evaluation.classes[index]} (recall {_with_unit(recall)})."]


def _with_unit(value: float) -> str:
    return f"{format_percent(value)}\N{NO-BREAK SPACE}%"


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


def _compare_with_baseline(evaluation: Evaluation, measure: str) -> str:
    best = best_baseline(evaluation, measure)
    if best is None:
        return ""
    name, baseline = best
    run: Interval = getattr(evaluation.summary, measure)
    is_separate = run.low > baseline.high or baseline.low > run.high
    overlap = "" if is_separate else "; the intervals overlap"
    return f", {points_apart(run.value, baseline.value)} the best baseline ({name}{overlap})"


def points_apart(value: float, reference: float) -> str:
    """Return the difference of two accuracies as text, such as "1.2 points above".

    Args:
        value: accuracy in 0-1.
        reference: the other accuracy in 0-1.
    """
    points = round(100 * (value - reference), 1)
    if points == 0:
        return "level with"
    return f"{abs(points):.1f} points {'above' if points > 0 else 'below'}"


def pluralize(count: int, noun: str, ending: str = "s") -> str:
    """Return a count with its noun, such as "1 chip" or "1,200 chips".

    Args:
        count: the number.
        noun: the noun in the singular.
        ending: ending of the plural.
    """
    return f"{count:,} {noun}{'' if count == 1 else ending}"


def format_percent(value: float) -> str:
    """Return a value in 0-1 as percent with one decimal, without the percent sign."""
    return f"{100 * value:.1f}"


def format_duration(seconds: float) -> str:
    """Return seconds, minutes and seconds, or hours and minutes."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, remainder = divmod(round(seconds), 60)
    return f"{minutes} min {remainder} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def format_bytes(count: int) -> str:
    """Return a number of bytes in kB or MB."""
    return f"{count / 1e3:,.0f} kB" if count < 1e6 else f"{count / 1e6:,.1f} MB"


def join_words(names: Sequence[str], word: str = "and") -> str:
    """Return names as an enumeration, such as "a, b and c".

    Args:
        names: any number of names.
        word: word before the last name.
    """
    return f" {word} ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))
