"""Show how often class sets contain the true class, and how large they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from rsft.evaluation.report.charts.intervals import interval_plot
from rsft.evaluation.report.render import format_percent, join_words
from rsft.evaluation.schema import CalibrationReport
from rsft.metrics.bootstrap import Interval
from rsft.metrics.sets import SetCoverage
from rsft.models.uncertainty.ood import largest_chance_share
from rsft.models.uncertainty.shift import SHIFT_LEVEL
from rsft.types import GROUPS

MAX_SCENES = 20
"""Largest number of groups of the data that the table lists."""


@dataclass(frozen=True)
class CoverageRow:
    """A group of chips at one target coverage.

    Attributes:
        target: the target coverage in percent.
        group: "all chips", "head", "medium" or "tail".
        covered: share of the chips whose set contains their class, in percent.
        interval: 95 % interval of `covered`.
        size: mean number of classes in a set.
        single: share of the sets with one class, in percent.
        chips: number of chips.
        verdict: whether the interval contains the target.
    """

    target: str
    group: str
    covered: str
    interval: str
    size: str
    single: str
    chips: int
    verdict: str


def coverage_rows(report: CalibrationReport) -> list[CoverageRow]:
    """Return the coverage table.

    Args:
        report: the measured calibration.

    Returns:
        One row for every target coverage and every group that has chips.
    """
    return [
        CoverageRow(
            target=f"{100 * level.target:g} %",
            group=_group_name(name),
            covered=format_percent(coverage.value),
            interval=f"{format_percent(coverage.low)}–{format_percent(coverage.high)}",
            size=f"{coverage.size:.2f}",
            single=format_percent(coverage.single),
            chips=coverage.chips,
            verdict=_verdict(level.target, coverage),
        )
        for level in report.coverage
        for name, coverage in level.groups.items()
        if coverage is not None
    ]


@dataclass(frozen=True)
class SceneRow:
    """A group of the data, such as a scene.

    Attributes:
        group: name of the group.
        chips: number of chips.
        accuracy: share of chips that are classified correctly, in percent.
        confidence: mean probability of the predicted class, in percent.
        covered: share of the chips whose set for 90 % contains their class, in percent.
        interval: 95 % interval of `covered`.
        ood: share of chips that are unlike the training chips, in percent.
        shifted: in what the chips differ from the validation chips; "" if they do not.
    """

    group: str
    chips: int
    accuracy: str
    confidence: str
    covered: str
    interval: str
    ood: str
    shifted: str


def scene_rows(report: CalibrationReport) -> list[SceneRow]:
    """Return the table of the groups of the data, such as scenes.

    Args:
        report: the measured calibration.

    Returns:
        One row for each of the `MAX_SCENES` largest groups.
    """
    return [
        SceneRow(
            group=scene.group,
            chips=scene.coverage.chips,
            accuracy=format_percent(scene.accuracy),
            confidence=format_percent(scene.confidence),
            covered=format_percent(scene.coverage.value),
            interval=f"{format_percent(scene.coverage.low)}–{format_percent(scene.coverage.high)}",
            ood=format_percent(scene.ood_share),
            shifted=join_words(scene.shifted),
        )
        for scene in report.scenes[:MAX_SCENES]
    ]


def _group_name(name: str) -> str:
    return "all chips" if name == "all" else name


def _verdict(target: float, coverage: SetCoverage) -> str:
    if coverage.high < target:
        return "below target"
    return "above target" if coverage.low > target else "on target"


def coverage_plot(report: CalibrationReport) -> Markup:
    """Draw the measured coverage by group; a stroke marks each target.

    Args:
        report: the measured calibration.

    Returns:
        The chart.
    """
    rows: dict[str, list[Interval | None]] = {
        _group_name(name): [_as_interval(level.groups.get(name)) for level in report.coverage]
        for name in ("all", *GROUPS)
    }
    targets = [level.target for level in report.coverage]
    names = [f"target {100 * target:g} %" for target in targets]
    lowest = min([*targets, *(value.low for values in rows.values() for value in values if value is not None)])
    title = "Coverage by group with 95 % intervals, in %"
    return interval_plot(title, names, rows, targets, low=0.5 if lowest >= 0.5 else 0.0)


def _as_interval(coverage: SetCoverage | None) -> Interval | None:
    return None if coverage is None else Interval(coverage.value, coverage.low, coverage.high)


def unlike_sentences(report: CalibrationReport, chips: int, split: str) -> str:
    """Describe how many chips are marked as unlike the training chips, and how many are expected.

    Args:
        report: the measured calibration.
        chips: number of evaluated chips.
        split: the evaluated split.

    Returns:
        Two or three sentences; "" without a measured share.
    """
    share, rate, validation_chips = report.ood_share["all"], report.ood_false_positive_rate, report.validation_chips
    if share is None:
        return ""
    marked = f"{format_percent(share)} % of the {chips:,} {split} chips are marked as unlike the training chips"
    expected = f"{marked}. If they are like the validation chips, {100 * rate:g} % are expected"
    if validation_chips is None:
        return f"{expected}."
    most = largest_chance_share(chips, validation_chips, rate, SHIFT_LEVEL)
    chance = (
        f"and up to {100 * most:.0f} % by chance, because the limit comes from {validation_chips:,} validation chips"
    )
    verdict = "Chance explains the share" if share <= most else f"The {split} chips differ from the validation chips"
    return f"{expected} on average, {chance}. {verdict}."


def uncovered_class_sentences(report: CalibrationReport, classes: Sequence[str]) -> list[str]:
    """Name the classes that every set contains.

    Args:
        report: the measured calibration.
        classes: class names by index.

    Returns:
        One sentence per target coverage that has such classes.
    """
    return [
        f"At {100 * level.target:g} %, every set contains {join_words(names)}: too few validation chips."
        for level in report.coverage
        if (names := [classes[index] for index in level.classes_without_coverage])
    ]
