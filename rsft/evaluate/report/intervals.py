"""Every method's accuracy by group, each with its interval, on one scale."""

from __future__ import annotations

from collections.abc import Mapping

from markupsafe import Markup

from rsft.evaluate.report.files import Interval, Summary
from rsft.evaluate.report.svg import element, figure, line, text

WIDTH, LEFT, RIGHT, TOP = 460, 108, 14, 26
STEP, GAP = 15, 16  # between two methods, and more between two measures
MEASURES = {"micro": "overall", "avg": "mean of groups", "head": "head", "medium": "medium", "tail": "tail"}


def interval_plot(methods: Mapping[str, Summary]) -> Markup:
    """A mark for the value and a line for the 95 % interval; the run is filled, baselines are hollow."""
    rows: list[Markup] = []
    y = TOP + 16
    summary = []
    for measure, label in MEASURES.items():
        found = {name: getattr(values, measure) for name, values in methods.items()}
        found = {name: spread for name, spread in found.items() if spread is not None}
        if not found:
            continue
        rows.append(text(LEFT - 14, y + STEP * (len(found) - 1) / 2 + 4, label, text_anchor="end"))
        for name, spread in found.items():
            rows.append(_whisker(list(methods).index(name), y, f"{label}, {name}", spread))
            summary.append(f"{label}, {name}: {spread.value:.1%}")
            y += STEP
        y += GAP
    bottom = y - GAP
    return figure(
        WIDTH,
        bottom + 26,
        "Accuracy by group with 95 % intervals, in %",
        "; ".join(summary),
        *_legend(methods),
        *(line(_x(v), TOP, _x(v), bottom, class_="rule") for v in _SCALE),
        *(text(_x(v), bottom + 16, f"{100 * v:g}", text_anchor="middle") for v in _SCALE),
        *rows,
        class_="chart",
    )


_SCALE = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


def _x(value: float) -> float:
    return LEFT + value * (WIDTH - LEFT - RIGHT)


def _whisker(method: int, y: float, label: str, spread: Interval) -> Markup:
    words = f"{label}: {spread.value:.1%} ({spread.low:.1%} to {spread.high:.1%})"
    return element(
        "g",
        element("title", words),
        line(_x(spread.low), y, _x(spread.high), y),
        _mark(method, _x(spread.value), y),
        class_="whisker run" if method == 0 else "whisker",
    )


def _mark(method: int, x: float, y: float) -> Markup:
    """A circle for the run, a square and a diamond for the baselines: the shape tells, not the colour."""
    if method == 0:
        return element("circle", cx=x, cy=y, r=4.6)
    turn = f"rotate(45 {x:.5g} {y:.5g})" if method % 2 == 0 else None
    return element("rect", x=x - 3.6, y=y - 3.6, width=7.2, height=7.2, transform=turn)


def _legend(methods: Mapping[str, Summary]) -> list[Markup]:
    x, entries = 8.0, []
    for method, name in enumerate(methods):
        mark = element("g", _mark(method, x, 9), class_="whisker run" if method == 0 else "whisker")
        entries += [mark, text(x + 9, 13, name)]
        x += 9 + 6.4 * len(name) + 20
    return entries
