"""Make the SVG elements of the maps that scripts change. Colors and fonts are in assets/style."""

from markupsafe import Markup, escape

Content = str | Markup
"""Plain text is escaped when it becomes part of an element."""

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
        f' {key.rstrip("_").replace("_", "-")}="{escape(f"{value:.5g}" if isinstance(value, float) else value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{name}{written}>{Markup().join(content)}</{name}>")


def svg_figure(width: float, height: float, title: str, summary: str, *content: Content, class_: str) -> Markup:
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
        viewBox=f"0 0 {width:.5g} {height:.5g}",
        role="img",
        style=f"--natural: {width:.5g}px",
        aria_label=f"{title}. {summary}",
    )


def svg_text(x: float, y: float, content: str, anchor: str, class_: str | None = None) -> Markup:
    """Return a line of text.

    Args:
        x: middle or end of the text.
        y: position of the baseline.
        content: the text.
        anchor: "middle" or "end".
        class_: style class.
    """
    return svg_element("text", content, x=x, y=y, text_anchor=anchor, class_=class_)


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
