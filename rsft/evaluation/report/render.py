"""Fill the templates of the report, and format numbers."""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from rsft.utils.atomic_files import write_text


def fill_template(name: str, content: Mapping[str, Any]) -> str:
    """Return a file of assets/ with its variables filled in."""
    return _environment().get_template(name).render(content)


@cache  # it keeps the compiled templates
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("rsft.evaluation.report", "assets"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "join_words": join_words,
        "pluralize": pluralize,
        "thousands": "{:,}".format,
        "percent": lambda value: "–" if value is None else format_percent(value),
    }
    return environment


def write_page(path: Path, template: str, content: Mapping[str, Any]) -> Path:
    """Fill a template, and write the page atomically; return its path.

    Args:
        path: path of the page.
        template: name of a file in assets/.
        content: the variables of the template.
    """
    write_text(path, fill_template(template, content))
    return path


def points_apart(value: float, reference: float) -> str:
    """Return the difference of two accuracies (0-1), such as "1.2 points above"."""
    points = round(100 * value - 100 * reference, 1)
    if points == 0:
        return "level with"
    return f"{abs(points):.1f} points {'above' if points > 0 else 'below'}"


def pluralize(count: int, noun: str) -> str:
    """Return a count with its noun, such as "1 chip" or "1,200 chips"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def format_percent(value: float) -> str:
    """Return a value in 0-1 as percent with one decimal, without the percent sign."""
    return f"{100 * value:.1f}"


def format_duration(seconds: float) -> str:
    """Return seconds, minutes and seconds, or hours and minutes."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, remainder = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {remainder} s"
    return f"{minutes // 60} h {minutes % 60} min"


def format_bytes(count: int) -> str:
    """Return a number of bytes in kB or MB."""
    if count < 1e6:
        return f"{count / 1e3:,.0f} kB"
    return f"{count / 1e6:,.1f} MB"


def join_words(names: Sequence[object], word: str = "and") -> str:
    """Return names as an enumeration, such as "a, b and c".

    `word` stands before the last name.
    """
    texts = list(map(str, names))
    return f" {word} ".join(filter(None, [", ".join(texts[:-1]), *texts[-1:]]))
