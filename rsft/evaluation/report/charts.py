"""Draw the charts of the report as SVG with the colors and font of the page."""

import io
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import wraps
from typing import Any, ParamSpec

import numpy as np
import pandas as pd
from markupsafe import Markup, escape
from matplotlib import rc_context, rcParams
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from rsft.evaluation.report.maps import HeatMap
from rsft.evaluation.report.metric_tables import wilson_interval
from rsft.evaluation.report.render import pluralize

WIDTH = 460
"""Width of a chart in figure units, which are pixels at its natural size."""

_ROLES = (
    "ink",
    "muted",
    "rule",
    "accent",
    "page",
    "head",
    "medium",
    "tail",
    "outer",
    "above",
    "below",
    "number",
    "reversed",
    *(f"c{number}" for number in range(8)),
)
COLORS = {role: f"#0000{index:02x}" for index, role in enumerate(_ROLES, 1)}
"""Colors of a drawing by their names in assets/style/colors.css, which replace them in
the SVG."""

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text, in the font of the page
    "font.family": "DejaVu Sans",
    "font.size": 12,
    "text.parse_math": False,  # names of classes may contain dollar signs
    "text.color": COLORS["muted"],
    "axes.labelcolor": COLORS["muted"],
    "axes.titlecolor": COLORS["ink"],
    "axes.titlelocation": "left",
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.facecolor": "none",
    "axes.axisbelow": True,
    "grid.color": COLORS["rule"],
    "legend.frameon": False,
    **{f"axes.spines.{side}": False for side in ("left", "right", "top", "bottom")},
    "xtick.color": COLORS["muted"],
    "ytick.color": COLORS["muted"],
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
}
_MARKERS = "osD^vP"

P = ParamSpec("P")


Drawing = tuple[Figure, str, str]
"""A figure, its title, and a summary for readers who do not see it."""


def chart(draw: Callable[P, Drawing | None]) -> Callable[P, Markup | None]:
    """Make a function return its figure as SVG.

    It follows the light and the dark colors of the page. None stays None.
    """

    @wraps(draw)
    def render(*args: P.args, **kwargs: P.kwargs) -> Markup | None:
        with rc_context(_STYLE), warnings.catch_warnings():
            # of characters that only the font of the page has, and of huge values
            warnings.simplefilter("ignore")
            drawing = draw(*args, **kwargs)
            if not drawing:
                return None
            figure, title, summary = drawing
            rcParams["svg.hashsalt"] = (
                # equal drawings are equal texts, and no id occurs twice on a page
                title
            )
            for artist in figure.findobj():
                artist.set_clip_on(False)
            file = io.StringIO()
            figure.savefig(
                file,
                format="svg",
                metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")),
            )
        content = file.getvalue().partition("</defs>")[2]  # without header and style
        width, height = 72 * figure.get_size_inches()
        text = escape(f"{title}. {summary}")
        return Markup(
            f'<svg class="chart" viewBox="0 0 {width:.5g} {height:.5g}"'
            ' role="img" '
            f'style="--natural: {width:.5g}px"'
            f' aria-label="{text}"><title>{escape(title)}</title>'
            f"<desc>{escape(summary)}</desc>{re.sub('<[^>]*>', _clean_tag, content)}"
        )

    return render


def _clean_tag(tag: re.Match[str]) -> str:
    """Return an SVG tag with the page's variables for its colors.

    What the page does not need is left out.
    """
    text = re.sub(
        r'(?<=<g) id="[^"]*"|font-family: [^;]*; | transform="rotate\(-0 [^"]*"',
        "",
        tag[0],
    )
    text = re.sub(r"(\d\.\d\d)\d+", r"\1", re.sub(r"\s*\n", " ", text))
    return re.sub(
        r"#0000(\w\w)", lambda match: f"var(--{_ROLES[int(match[1], 16) - 1]})", text
    )


def _new_figure(height: float, width: float = WIDTH) -> Figure:
    """Return an empty figure."""
    return Figure(
        (width / 72, height / 72), dpi=72, frameon=False, layout="constrained"
    )


def _percent(value: float, _: object) -> str:
    """Return the label of a tick in percent, without the percent sign."""
    return f"{100 * value:g}"


_LOSSES = {
    "train_loss": ("training", "muted", (1, 2)),
    "meta_loss": ("outer loop", "outer", (4, 1.5)),
    "val_loss": ("validation", "ink", ()),
}
_VALIDATION = {
    "val_macro": ("all classes", "muted", (1, 2)),
    "val_head": ("head", "head", ()),
    "val_medium": ("medium", "medium", (4, 1.5)),
    "val_tail": ("tail", "tail", (2, 1.5)),
}
"""Label, color and dashes of each curve, by its column of metrics.csv."""


def loss_curves(epochs: pd.DataFrame) -> Markup | None:
    """Draw training, outer-loop and validation loss by epoch of metrics.csv.

    Returns None if no loss is finite.
    """
    return _line_chart("Loss by epoch", epochs, _LOSSES)


def accuracy_curves(epochs: pd.DataFrame) -> Markup | None:
    """Draw validation accuracy of head, medium, tail and all classes by epoch.

    Returns None if none is finite.
    """
    return _line_chart(
        "Validation accuracy by epoch, in %", epochs, _VALIDATION, percent=True
    )


@chart
def _line_chart(
    title: str,
    epochs: pd.DataFrame,
    curves: Mapping[str, tuple[str, str, tuple[float, ...]]],
    percent: bool = False,
) -> Drawing | None:
    table = epochs.set_index(epochs["epoch"] + 1)[list(curves)]
    table = table.where(np.isfinite(table)).dropna(axis="columns", how="all")
    if table.empty or not len(table.columns):
        return None
    figure = _new_figure(270)
    axes = figure.subplots()
    for column, values in table.items():
        label, color, dashes = curves[str(column)]
        finite = values.dropna()
        axes.plot(
            finite.index,
            finite,
            marker="o",
            markevery=[-1],
            markersize=6,
            dashes=dashes,
            color=COLORS[color],
            linewidth=2,
            label=label,
        )
    axes.set(title=title, xlabel="epoch")
    if percent:
        axes.set_ylim(0, 1)
        axes.yaxis.set_major_formatter(_percent)
    else:
        axes.set_ylim(min(0.0, float(table.min().min())))
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
    axes.grid(axis="y")
    figure.legend(
        loc="outside right center", labelcolor="linecolor", reverse=not percent
    )
    return figure, title, pluralize(len(epochs), "epoch")


RELIABILITY_BINS = 15


def reliability_bins(predictions: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """Group predictions into bins of equal width, as for `ece` in metrics.json.

    A bin contains its upper end.

    Returns:
        One row per bin that contains chips, by its number from 1: mean confidence,
            number of chips, number of hits.
    """
    confidence = (
        predictions[[f"p_{name}" for name in classes]].to_numpy(float).max(axis=1)
    )
    bins = np.ceil(confidence * RELIABILITY_BINS).clip(1, RELIABILITY_BINS).astype(int)
    hit = predictions["predicted"].eq(predictions["class"]).to_numpy()
    return (
        pd.DataFrame({"confidence": confidence, "hit": hit})
        .groupby(bins)
        .agg(
            confidence=("confidence", "mean"),
            chips=("hit", "size"),
            hits=("hit", "sum"),
        )
    )


@chart
def reliability_diagram(predictions: pd.DataFrame, classes: Sequence[str]) -> Drawing:
    """Draw accuracy over confidence.

    Intervals are of 95 % (Wilson).
    """
    bins = reliability_bins(predictions, classes)
    figure = _new_figure(370)
    diagram = figure.subplots()
    diagram.plot([0, 1], [0, 1], color=COLORS["muted"], linewidth=1, dashes=(5, 4))
    accuracy = [
        wilson_interval(int(hits), int(chips))
        for hits, chips in zip(bins["hits"], bins["chips"], strict=True)
    ]
    ends = [(x.value - x.low, x.high - x.value) for x in accuracy]
    diagram.errorbar(
        bins["confidence"],
        [x.value for x in accuracy],
        np.maximum(0, ends).T,
        fmt="o",
        color=COLORS["accent"],
        elinewidth=2.4,
        markersize=8,
    )
    diagram.set(title="accuracy by confidence, in %", xlim=(0, 1), ylim=(0, 1))
    diagram.xaxis.set_major_formatter(_percent)
    diagram.yaxis.set_major_formatter(_percent)
    diagram.grid(axis="y")
    chips = int(bins["chips"].sum())
    summary = f"{pluralize(chips, 'chip')} in {pluralize(len(bins), 'bin')}"
    return figure, "Accuracy by confidence, in %", summary


_STRONG_SHADE = 0.72
"""Strength of a shade (0-1) above which the number on it has the reversed color."""

_LONGEST_NAME = 18


@chart
def heat_map(table: HeatMap) -> Drawing:
    """Draw a table with shaded cells; without labels, only the shades."""
    rows, columns = table.texts.shape
    if table.has_labels:
        figure = _new_figure(110 + 30 * rows, 120 + 62 * columns)
    else:
        figure = _new_figure(WIDTH)
    axes = figure.subplots()
    corners = np.array([(0, 0), (1, 0), (1, 1), (0, 1)]) - 0.5
    cells = np.argwhere(table.texts.to_numpy() != "")
    shades = table.shades[tuple(cells.T)]
    colors = [to_rgba(COLORS["above" if x > 0 else "below"], abs(x)) for x in shades]
    squares = corners + cells[:, None, ::-1]
    axes.add_collection(PolyCollection(list(squares), facecolors=colors, linewidths=0))
    axes.set(xlim=(-0.5, columns - 0.5), ylim=(rows - 0.5, -0.5), xticks=[], yticks=[])
    axes.xaxis.set_label_position("top")
    axes.set(xlabel=table.texts.columns.name, ylabel=table.texts.index.name)
    if table.has_labels:
        for (row, column), shade in zip(cells, shades, strict=True):
            color = COLORS["reversed" if abs(shade) > _STRONG_SHADE else "number"]
            text = str(table.texts.iat[row, column])
            axes.text(column, row, text, ha="center", va="center", color=color)
        axes.xaxis.tick_top()
        names = _shorten(table.texts.columns)
        tilt = 45 if max(map(len, names)) > len("mlp1") else 0
        axes.set_xticks(
            range(columns), names, rotation=tilt, ha="left" if tilt else "center"
        )
        axes.set_yticks(range(rows), _shorten(table.texts.index))
    return figure, table.title, table.summary


def _shorten(names: Iterable[str]) -> list[str]:
    """Return names with at most `_LONGEST_NAME` letters."""
    return [
        x if len(x) <= _LONGEST_NAME else f"{x[: _LONGEST_NAME - 1]}…" for x in names
    ]


_STAGES = {"frozen": "Before: frozen features", "adapted": "After: adapted features"}


@chart
def feature_maps(chips: pd.DataFrame) -> Drawing:
    """Draw the t-SNE maps before and after fine-tuning.

    Args:
        chips: the table of `rsft.evaluation.report.maps.mapped_chips`.
    """
    labels = chips["label"].cat.categories
    figure = _new_figure(WIDTH + 6 * len(labels), 2 * WIDTH)
    panels = figure.subplots(1, 2)
    for axes, (stage, title) in zip(panels, _STAGES.items(), strict=True):
        for number, label in enumerate(labels):
            shown = chips[chips["label"] == label]
            axes.plot(
                shown[f"{stage}_x"],
                shown[f"{stage}_y"],
                _MARKERS[(number % 8 + number // 8) % len(_MARKERS)],
                label=label,
                color=COLORS[f"c{number % 8}"],
                markersize=6,
            )
        axes.set(
            title=title, xticks=[], yticks=[], aspect="equal", adjustable="datalim"
        )
    figure.legend(
        *panels[0].get_legend_handles_labels(),
        loc="outside lower left",
        ncols=min(6, len(labels)),
    )
    summary = f"{len(chips)} chips of {len(labels)} classes or groups"
    return figure, "Features before and after", summary
