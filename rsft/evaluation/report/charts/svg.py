"""Make the SVG elements of the charts. Colors and fonts are in assets/style."""

from __future__ import annotations

from markupsafe import Markup, escape

Content = str | Markup
"""Plain text is escaped when it becomes part of an element."""

CHARACTER_WIDTH = 6.6
"""Mean width of a character of chart text, in figure units."""

STRONG_SHADE = 0.72
"""Strength of a shade (0-1) above which the number on it has the reversed color."""

SHAPES = 6
"""Number of shapes of `marker_path`. Together with colors they distinguish more classes."""


def svg_element(name: str, *content: Content, **attributes: object) -> Markup:
    """Return one element.

    Args:
        name: name of the tag.
        content: texts and elements inside.
        attributes: `class_` becomes class, `text_anchor` becomes text-anchor; None leaves an attribute out.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_short(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{name}{written}>{Markup().join(content)}</{name}>")


def svg_figure(
    width: float, height: float, title: str, summary: str, *content: Content, class_: str | None = None
) -> Markup:
    """Return an image that scales with its container and describes itself to screen readers.

    Args:
        width: width in figure units.
        height: height in figure units.
        title: title of the figure.
        summary: description of what the figure shows.
        content: elements of the figure.
        class_: style class.
    """
    return svg_element(
        "svg",
        svg_element("title", title),
        svg_element("desc", summary),
        *content,
        class_=class_,
        viewBox=f"0 0 {_short(width)} {_short(height)}",
        role="img",
        style=f"--natural: {_short(width)}px",
        aria_label=f"{title}. {summary}",
    )


def svg_text(x: float, y: float, content: str, **attributes: object) -> Markup:
    """Return a line of text.

    Args:
        x: start of the text; with `text_anchor`, its middle or end.
        y: position of the baseline.
        content: the text.
        attributes: see `svg_element`.
    """
    return svg_element("text", content, x=x, y=y, **attributes)


def svg_line(x1: float, y1: float, x2: float, y2: float, **attributes: object) -> Markup:
    """Return a straight line from (x1, y1) to (x2, y2).

    Args:
        x1: x of the start.
        y1: y of the start.
        x2: x of the end.
        y2: y of the end.
        attributes: see `svg_element`.
    """
    return svg_element("line", x1=x1, y1=y1, x2=x2, y2=y2, **attributes)


def marker_path(shape: int, x: float, y: float, r: float) -> str:
    """Return the path of a marker with a width of about 2 r.

    Args:
        shape: circle, square, diamond, triangle, inverted triangle or cross, by number modulo `SHAPES`.
        x: x of the center.
        y: y of the center.
        r: radius.
    """
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


def shorten(label: str, length: int) -> str:
    """Shorten a label to at most `length` characters, with an ellipsis at its end.

    Args:
        label: any text.
        length: largest number of characters.
    """
    return label if len(label) <= length else label[: length - 1] + "…"


def number_style(shade: float) -> str | None:
    """Return the style class of a number on a shade (0-1): "reversed" on a strong shade."""
    return "reversed" if shade > STRONG_SHADE else None


def _short(value: object) -> object:
    return f"{value:.5g}" if isinstance(value, float) else value
