"""The few pieces of SVG that the figures are drawn with; colours and fonts are those of style.css."""

from __future__ import annotations

import math

from markupsafe import Markup, escape

Content = str | Markup  # plain text is escaped wherever it is put

GLYPH = 6.6
"""Mean width of a character of figure text, in figure units."""

STRONG = 0.72
"""The share of a shade's full strength from which a number on it is reversed."""


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


def _short(value: object) -> object:
    return f"{value:.5g}" if isinstance(value, float) else value
