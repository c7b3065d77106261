"""The few pieces of SVG that the figures are drawn with; colours and fonts are those of assets/style."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray
from scipy.stats import binomtest

Content = str | Markup  # plain text is escaped wherever it is put

GLYPH = 6.6
"""Mean width of a character of figure text, in figure units."""

STRONG = 0.72
"""The share of a shade's full strength from which a number on it is reversed."""

SHAPES = 6
"""Shapes of `marker`: they tell what colours alone would not."""


def element(name: str, *content: Content, **attributes: object) -> Markup:
    """One element; `class_` is written class, `text_anchor` text-anchor, and what is None is left out."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_short(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{name}{written}>{Markup().join(content)}</{name}>")


def figure(
    width: float, height: float, title: str, summary: str, *content: Content, class_: str | None = None
) -> Markup:
    """An image of `width` x `height` units that scales with its container and says in words what it shows."""
    return element(
        "svg",
        element("title", title),
        element("desc", summary),
        *content,
        class_=class_,
        viewBox=f"0 0 {_short(width)} {_short(height)}",
        role="img",
        style=f"--natural: {_short(width)}px",
        aria_label=f"{title}. {summary}",
    )


def text(x: float, y: float, content: str, **attributes: object) -> Markup:
    """A line of text with its baseline at y."""
    return element("text", content, x=x, y=y, **attributes)


def line(x1: float, y1: float, x2: float, y2: float, **attributes: object) -> Markup:
    """A straight line."""
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, **attributes)


def marker(shape: int, x: float, y: float, r: float) -> str:
    """The path of a mark at (x, y), about 2 r wide: circle, square, diamond, triangle, the same upside down, cross."""
    s, t, u = 0.87 * r, 1.1 * r, 0.4 * r
    paths = (
        f"M{x - r:.1f} {y:.1f}a{r} {r} 0 1 0 {2 * r:.4g} 0a{r} {r} 0 1 0{-2 * r:.4g} 0z",
        f"M{x - s:.1f} {y - s:.1f}h{2 * s:.3g}v{2 * s:.3g}h{-2 * s:.3g}z",
        f"M{x:.1f} {y - 1.25 * r:.1f}l{1.25 * r:.3g} {1.25 * r:.3g} {-1.25 * r:.3g} {1.25 * r:.3g}"
        f" {-1.25 * r:.3g} {-1.25 * r:.3g}z",
        f"M{x:.1f} {y - t:.1f}l{t:.3g} {1.85 * t:.3g}h{-2 * t:.3g}z",
        f"M{x:.1f} {y + t:.1f}l{t:.3g} {-1.85 * t:.3g}h{-2 * t:.3g}z",
        f"M{x - u:.1f} {y - t:.1f}h{2 * u:.3g}v{t - u:.3g}h{t - u:.3g}v{2 * u:.3g}h{u - t:.3g}v{t - u:.3g}"
        f"h{-2 * u:.3g}v{u - t:.3g}h{u - t:.3g}v{-2 * u:.3g}h{t - u:.3g}z",
    )
    return paths[shape % SHAPES]


@dataclass(frozen=True)
class Axis:
    """A linear axis from `low` to `high`, drawn from `start` to `stop`; by the logarithm where `log`."""

    low: float
    high: float
    start: float
    stop: float
    log: bool = False

    def place(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Where values lie; all at the end where low and high are one."""
        low, high = (math.log(end) if self.log else end for end in (self.low, self.high))
        shares = (np.log(values) if self.log else values) - low
        span = high - low
        return self.start + (shares / span if span else np.ones_like(shares)) * (self.stop - self.start)

    def at(self, value: float) -> float:
        """Where a value lies."""
        return float(self.place(np.array(value, float)))


def clip(label: str, characters: int) -> str:
    """The label, shortened with an ellipsis where it is longer."""
    return label if len(label) <= characters else label[: characters - 1] + "…"


def on_shade(share: float) -> str | None:
    """The style of a number that stands on a shade: reversed where the shade is strong."""
    return "reversed" if share > STRONG else None


def ticks(low: float, high: float, count: int = 5, whole: bool = False) -> list[float]:
    """About `count` round numbers that span low to high, both ends covered.

    Args:
        whole: steps are whole numbers, and the numbers lie inside of low to high.
    """
    span = (high - low) or 1.0
    size = 10.0 ** math.floor(math.log10(span / count))
    step = next(size * factor for factor in (1, 2, 5, 10) if span / (size * factor) <= count)
    if whole:
        step = max(1.0, step)
        return [step * k for k in range(math.ceil(low / step), math.floor(high / step) + 1)]
    return [step * k for k in range(math.floor(low / step), math.ceil(high / step) + 1)]


def log_ticks(low: float, high: float, most: int = 7) -> list[float]:
    """Round numbers that span low to high on a log axis, both ends covered: 1, 2, 5, 10, or powers of ten alone."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1, 2, 5), (1,)):
        steps = [factor * 10.0**power for power in powers for factor in factors]
        first = max(place for place, step in enumerate(steps) if step <= low)
        last = next(place for place, step in enumerate(steps) if step >= high)
        if last - first < most:
            break
    return steps[first : last + 1]


def wilson(hits: int, count: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927)."""
    found = binomtest(hits, count).proportion_ci(method="wilson")
    return float(found.low), float(found.high)


def _short(value: object) -> object:
    return f"{value:.5g}" if isinstance(value, float) else value
