"""What came out, in words, and how numbers are written."""

from __future__ import annotations

from collections.abc import Sequence

from rsft.evaluation.report.schema import Evaluation, Interval
from rsft.types import GROUPS


def verdict(evaluation: Evaluation) -> list[str]:
    """The outcome in two or three sentences, beside the better baseline."""
    own, chips = evaluation.summary, f"{evaluation.count:,} {evaluation.split} chips"
    right = f"{evaluation.method} is right on {_share(own.micro.value)} of {chips}"
    sentences = [f"{right}{_beside(evaluation, 'micro')}."]
    rarest = next((group for group in reversed(GROUPS) if getattr(own, group)), None)
    if rarest:
        found = f"In the classes of the {rarest} it finds {_share(getattr(own, rarest).value)} of the chips"
        sentences.append(f"{found}{_beside(evaluation, rarest)}.")
    return [*sentences, f"It is weakest at {own.worst.name} ({_share(own.worst.value)})."]


def _share(value: float) -> str:
    return f"{percent(value)}\N{NO-BREAK SPACE}%"


def better_baseline(evaluation: Evaluation, measure: str) -> tuple[str, Interval] | None:
    """The baseline with the higher value of a measure that has an interval."""
    found = {name: getattr(summary, measure) for name, summary in evaluation.baselines.items()}
    known = {name: spread for name, spread in found.items() if spread is not None}
    return max(known.items(), key=lambda item: item[1].value) if known else None


def _beside(evaluation: Evaluation, measure: str) -> str:
    best = better_baseline(evaluation, measure)
    if best is None:
        return ""
    name, other = best
    own: Interval = getattr(evaluation.summary, measure)
    apart = own.low > other.high or other.low > own.high
    overlap = "" if apart else "; the intervals overlap"
    return f", {difference(own.value, other.value)} the better baseline ({name}{overlap})"


def difference(own: float, other: float) -> str:
    """How far one share is from another, in words."""
    points = round(100 * (own - other), 1)
    if points == 0:
        return "level with"
    return f"{abs(points):.1f} points {'above' if points > 0 else 'below'}"


def counted(count: int, noun: str, ending: str = "s") -> str:
    """ "1 chip", "1,200 chips"."""
    return f"{count:,} {noun}{'' if count == 1 else ending}"


def percent(value: float) -> str:
    """A share of 1 in %, one decimal."""
    return f"{100 * value:.1f}"


def duration(seconds: float) -> str:
    """Seconds, or minutes and seconds, or hours and minutes."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def size(count: int) -> str:
    """Bytes in kB or MB."""
    return f"{count / 1e3:,.0f} kB" if count < 1e6 else f"{count / 1e6:,.1f} MB"


def listed(names: Sequence[str], word: str = "and") -> str:
    """ "a, b and c"."""
    return f" {word} ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))
