"""Draw Figure 1a of the paper: one bubble per method.

Its place is tail accuracy over overall accuracy, and its area the variance.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rsft.plugins.paper.runs import TableRuns
from rsft.recipe.schema import Recipe
from rsft.utils.atomic_files import atomic_file

COLORS = {"additive": "#0072b2", "with modulator": "#d55e00", "not additive": "#777777"}
"""Color by kind of method; the paper compares additive methods with the others."""

LARGEST_AREA = 900.0
SMALLEST_AREA = 24.0
"""Areas of the bubble with the largest variance, and of a method without or with almost
no variance, in points^2."""

LABEL_DISTANCE = 0.045
"""Smallest distance between two names, as a share of the height of the axes."""


@dataclass(frozen=True)
class Bubble:
    """A method in the figure.

    Attributes:
        name: name of the method.
        kind: a key of COLORS.
        overall: mean accuracy of the groups in %, over all runs.
        tail: mean tail accuracy in %, over all runs.
        variance: variance of the overall accuracy over seeds, in points^2; None with
            one run.
        runs: number of runs.
    """

    name: str
    kind: str
    overall: float
    tail: float
    variance: float | None
    runs: int

    @property
    def label(self) -> str:
        """Name, and with two or more runs the deviation of the overall accuracy."""
        if self.variance is None:
            return self.name
        return f"{self.name} ± {self.variance**0.5:.1f}"


def list_bubbles(runs: TableRuns) -> list[Bubble]:
    """Return one bubble per row with a finished run.

    Args:
        runs: runs of a table with one set, which has the measures tail and avg.
    """
    (set_name,) = runs.table.sets
    bubbles = []
    for cell, trials in runs.cells:
        overall = runs.measured_values(cell.row, set_name, "avg")
        tail = runs.measured_values(cell.row, set_name, "tail")
        if overall and tail:
            variance = statistics.variance(overall) if len(overall) > 1 else None
            bubble = Bubble(
                name=cell.row,
                kind=_kind(trials[0].recipe),
                overall=statistics.mean(overall),
                tail=statistics.mean(tail),
                variance=variance,
                runs=len(overall),
            )
            bubbles.append(bubble)
    return bubbles


def save_bubble_chart(runs: TableRuns, title: str, path: Path) -> list[Path]:
    """Draw the bubbles of a table as PNG and SVG.

    Args:
        runs: runs of the table.
        title: title of the figure.
        path: path of the files without suffix.

    Returns:
        Paths of the files; none without a finished run.
    """
    bubbles = list_bubbles(runs)
    if not bubbles:
        return []
    figure = draw_bubbles(bubbles, title)
    paths = [path.with_suffix(suffix) for suffix in (".png", ".svg")]
    for file in paths:
        with atomic_file(file) as temporary:
            figure.savefig(temporary, format=file.suffix[1:], dpi=150)
    return paths


def draw_bubbles(bubbles: Sequence[Bubble], title: str) -> Figure:
    """Draw the figure.

    Args:
        bubbles: one or more methods.
        title: title of the figure.

    Returns:
        A figure of matplotlib.
    """
    figure = Figure(figsize=(6.8, 5.2), layout="constrained")
    axes = figure.add_subplot()
    variances = [bubble.variance or 0.0 for bubble in bubbles]
    largest = max(variances, default=0.0)
    # small bubbles in front
    for bubble in sorted(bubbles, key=lambda bubble: -(bubble.variance or 0.0)):
        color = COLORS[bubble.kind]
        axes.scatter(
            bubble.overall,
            bubble.tail,
            s=bubble_area(bubble.variance, largest),
            facecolor="none" if bubble.variance is None else color,
            edgecolor=color,
            alpha=0.6,
            linewidth=1.2,
        )
    axes.margins(0.15)
    axes.set(
        xlabel="overall accuracy, mean of the groups (%)",
        ylabel="tail accuracy (%)",
        title=title,
    )
    axes.grid(alpha=0.25)
    _add_labels(axes, bubbles)
    _add_legend(axes, bubbles, largest)
    return figure


def _add_labels(axes: Axes, bubbles: Sequence[Bubble]) -> None:
    """Write the names right of the axes, joined to their bubbles; none overlap."""
    low, high = axes.get_ylim()
    height = 0.0
    for bubble in sorted(bubbles, key=lambda bubble: (bubble.tail, bubble.overall)):
        height = max(height + LABEL_DISTANCE, (bubble.tail - low) / (high - low))
        color = COLORS[bubble.kind]
        axes.annotate(
            bubble.label,
            (bubble.overall, bubble.tail),
            (1.04, height),
            textcoords="axes fraction",
            va="center",
            fontsize=8,
            color=color,
            arrowprops={"arrowstyle": "-", "color": color, "alpha": 0.5, "lw": 0.7},
        )


def bubble_area(variance: float | None, largest: float) -> float:
    """Return the area of a bubble in points^2, at least SMALLEST_AREA.

    Args:
        variance: variance of the method; None with one run.
        largest: largest variance of all methods.
    """
    if not variance or not largest:
        return SMALLEST_AREA
    return max(SMALLEST_AREA, LARGEST_AREA * variance / largest)


def _add_legend(axes: Axes, bubbles: Sequence[Bubble], largest: float) -> None:
    kinds = {bubble.kind for bubble in bubbles}
    for kind, color in COLORS.items():
        if kind in kinds:
            _add_circle(axes, kind, 60, color, color)
    for variance in (0.25 * largest, largest):
        if variance:
            area = bubble_area(variance, largest)
            _add_circle(axes, f"variance {variance:.2g}", area, "black")
    if any(bubble.variance is None for bubble in bubbles):
        _add_circle(axes, "one run", SMALLEST_AREA, "black")
    axes.legend(
        fontsize=8, labelspacing=1.6, borderpad=1, handletextpad=2.0, loc="best"
    )


def _add_circle(
    axes: Axes, label: str, area: float, color: str, face: str = "none"
) -> None:
    """Add an entry to the legend, and nothing to the axes."""
    axes.scatter(
        [], [], s=area, label=label, alpha=0.6, facecolor=face, edgecolor=color
    )


def _kind(recipe: Recipe) -> str:
    if recipe.meta is not None:
        return "with modulator"
    if "scale" in recipe.peft.settings:
        return "additive"
    return "not additive"
