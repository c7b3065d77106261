"""What sets of classes were worth: how often the true class is in them, and what that costs."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from rsft.evaluation.report.charts.intervals import interval_plot
from rsft.evaluation.report.formatting import listed, percent
from rsft.evaluation.report.schema import Coverage, Trust
from rsft.types import GROUPS


@dataclass(frozen=True)
class CoverageRow:
    """A group at one asked coverage; `verdict` says whether the interval holds what was asked."""

    asked: str
    group: str
    found: str
    interval: str
    size: str
    single: str
    chips: int
    verdict: str


def coverage_rows(trust: Trust) -> list[CoverageRow]:
    """Every asked coverage, overall and in each group that has chips."""
    return [
        CoverageRow(
            asked=f"{100 * sets.asked:g} %",
            group="all chips" if name == "all" else name,
            found=percent(found.value),
            interval=f"{percent(found.low)}–{percent(found.high)}",
            size=f"{found.size:.2f}",
            single=percent(found.single),
            chips=found.chips,
            verdict=_verdict(sets.asked, found),
        )
        for sets in trust.coverage
        for name, found in sets.groups.items()
        if found is not None
    ]


def _verdict(asked: float, found: Coverage) -> str:
    if found.high < asked:
        return "less than asked"
    return "more than asked" if found.low > asked else "as asked"


def coverage_plot(trust: Trust) -> Markup:
    """Found coverage by group; a stroke is what was asked."""
    rows = {
        "all chips" if name == "all" else name: [sets.groups.get(name) for sets in trust.coverage]
        for name in ("all", *GROUPS)
    }
    names = [f"{100 * sets.asked:g} % asked" for sets in trust.coverage]
    asked = [sets.asked for sets in trust.coverage]
    lowest = min([*asked, *(found.low for spreads in rows.values() for found in spreads if found is not None)])
    title = "Coverage by group with 95 % intervals, in %"
    return interval_plot(title, names, rows, asked, low=0.5 if lowest >= 0.5 else 0.0)


def scarce_classes(trust: Trust, classes: list[str]) -> list[str]:
    """Sentences on the classes that are in every set for want of validation chips."""
    return [
        f"At {100 * sets.asked:g} %, in every set for want of validation chips: "
        f"{listed([classes[index] for index in sets.scarce])}."
        for sets in trust.coverage
        if sets.scarce
    ]
