"""Draw Figure 1a of the paper: one bubble per method, tail accuracy over overall accuracy, area by variance."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

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
        """Name and, with two or more runs, the standard deviation of the overall accuracy."""
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
            if len(overall) > 1:
                variance = statistics.variance(overall)
            else:
                variance = None
            kind = _kind(trials[0].recipe)
            means = statistics.mean(overall), statistics.mean(tail)
            bubbles.append(Bubble(cell.row, kind, *means, variance, len(overall)))
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
    largest = max((bubble.variance or 0.0 for bubble in bubbles), default=0.0)
    for bubble in sorted(
        bubbles, key=lambda bubble: bubble.variance or 0.0, reverse=True
    ):  # small ones in front
        area = bubble_area(bubble.variance, largest)
        if bubble.variance is None:
            face = "none"
        else:
            face = COLORS[bubble.kind]
        edge = COLORS[bubble.kind]
        axes.scatter(
            bubble.overall,
            bubble.tail,
            s=area,
            facecolor=face,
            edgecolor=edge,
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
    """Write the names in a column right of the axes, joined to their bubbles by lines; names never overlap."""
    low, high = axes.get_ylim()
    height = 0.0
    for bubble in sorted(bubbles, key=lambda bubble: (bubble.tail, bubble.overall)):
        height = max(height + LABEL_DISTANCE, (bubble.tail - low) / (high - low))
        axes.annotate(
            bubble.label,
            (bubble.overall, bubble.tail),
            (1.04, height),
            textcoords="axes fraction",
            va="center",
            fontsize=8,
            color=COLORS[bubble.kind],
            arrowprops={
                "arrowstyle": "-",
                "color": COLORS[bubble.kind],
                "alpha": 0.5,
                "linewidth": 0.7,
            },
        )


def bubble_area(variance: float | None, largest: float) -> float:
    """Return the area of a bubble in points^2, proportional to the variance down to SMALLEST_AREA.

    Args:
        variance: variance of the method; None with one run.
        largest: largest variance of all methods.
    """
    if variance and largest:
        return max(SMALLEST_AREA, LARGEST_AREA * variance / largest)
    return SMALLEST_AREA


def _add_legend(axes: Axes, bubbles: Sequence[Bubble], largest: float) -> None:
    def circle(label: str, area: float, color: str, face: str) -> Line2D:
        size = 2 * (area / 3.14) ** 0.5
        return Line2D(
            [],
            [],
            marker="o",
            ls="",
            ms=size,
            mec=color,
            mfc=face,
            alpha=0.6,
            label=label,
        )

    kinds = [kind for kind in COLORS if any(bubble.kind == kind for bubble in bubbles)]
    handles = [circle(kind, 60, COLORS[kind], COLORS[kind]) for kind in kinds]
    if largest:
        for share in (0.25, 1.0):
            area = bubble_area(share * largest, largest)
            handles.append(
                circle(f"variance {share * largest:.2g}", area, "black", "none")
            )
    if any(bubble.variance is None for bubble in bubbles):
        handles.append(circle("one run", SMALLEST_AREA, "black", "none"))
    axes.legend(
        handles=handles,
        fontsize=8,
        labelspacing=1.6,
        borderpad=1,
        handletextpad=2.0,
        loc="best",
    )


def _kind(recipe: Recipe) -> str:
    if recipe.meta is not None:
        return "with modulator"
    if "scale" in recipe.peft.settings:
        return "additive"
    return "not additive"
