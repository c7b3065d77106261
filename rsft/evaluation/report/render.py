"""Fill the templates of the report, explain terms, and format numbers.

The words of docs/glossary.md explain terms.
"""

import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from rsft.utils.atomic_files import write_text

_ENTRIES = {
    **dict.fromkeys(
        ("head", "medium", "tail", "Head", "Medium", "Tail"), "head, medium, tail"
    ),
    "All classes": "macro accuracy",
    "mean recall": "recall",
    "class-balanced k-NN": "k-NN",
    "plain k-NN": "k-NN",
    "baseline": "baseline",
    "logit-adjusted": "logit adjustment",
    "linear probe": "linear probe",
    "calibrated": "calibration of probabilities",
    "intervals": "interval",
}
"""Words of the sentences of a page that are explained there, with their entries of the
glossary."""

_LINK = re.compile(r"\[([^\]]*)\]\([^)]*\)")
# a sentence that names other pages
_REFERENCE = re.compile(r"See (?:also )?(?:\[[^\]]*\]\([^)]*\)(?:, | and )?)+\.")

_BUTTON = Markup(
    '<button type="button" class="term" popovertarget="{id}" popovertargetaction="show"'
    ' aria-describedby="{id}">{text}</button>'
)


@cache
def read_glossary() -> Mapping[str, str]:
    """Read the first paragraph of each entry of the glossary.

    It is text without links and references to other pages.

    Returns:
        Entry and text, by the entry in lower case; empty if the file is missing, so
        that pages have no explanations.
    """
    path = Path(__file__).parent / "glossary.md"  # in the installed package
    if not path.is_file():
        path = Path(__file__).parents[3] / "docs" / "glossary.md"
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    definitions = {}
    for entry in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        name, paragraph, *_ = entry.strip().split("\n\n")
        plain = _LINK.sub(r"\1", _REFERENCE.sub("", " ".join(paragraph.split())))
        definitions[name.lower()] = f"{name}: {re.sub('[`*]', '', plain).strip()}"
    return definitions


class Terms:
    """The terms that a page explains.

    A term is a button that shows its definition, without a script as well.
    """

    def __init__(self) -> None:
        # definitions of the terms so far, by the id of their element
        self.used: dict[str, str] = {}

    def term(self, text: str, entry: str = "") -> Markup:
        """Return a term with its definition, as HTML.

        The text stays alone if the glossary has no such entry.
        """
        entry = (entry or _ENTRIES.get(text, text)).lower()
        definition = read_glossary().get(entry)
        if definition is None:
            return escape(text)
        name = "term-" + re.sub(r"\W+", "-", entry)
        self.used[name] = definition
        return _BUTTON.format(id=name, text=text)

    def mark(self, sentences: str) -> Markup:
        """Return plain text in which the first use of each known word is a term."""
        seen: set[str] = set()

        def replace(match: re.Match[str]) -> str:
            is_new = match[0] not in seen
            seen.add(match[0])
            if is_new:
                return str(self.term(match[0]))
            return match[0]

        words = "|".join(map(re.escape, sorted(_ENTRIES, key=len, reverse=True)))
        return Markup(re.sub(rf"\b(?:{words})\b", replace, str(escape(sentences))))


def fill_template(name: str, content: Mapping[str, Any]) -> str:
    """Return a file of assets/ with its variables filled in."""
    environment, terms = _environment()
    terms.used.clear()
    return environment.get_template(name).render(content)


@cache  # it keeps the compiled templates
def _environment() -> tuple[Environment, Terms]:
    loader = PackageLoader("rsft.evaluation.report", "assets")
    terms = Terms()
    environment = Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"term": terms.term, "used_terms": terms.used}
    environment.filters |= {
        "terms": terms.mark,
        "join_words": join_words,
        "pluralize": pluralize,
        "thousands": "{:,}".format,
        "percent": lambda value: "–" if value is None else format_percent(value),
    }
    return environment, terms


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
    points = round(100 * (value - reference), 1)
    if points == 0:
        return "level with"
    return f"{abs(points):.1f} points {'above' if points > 0 else 'below'}"


def signed_points(value: float, reference: float) -> str:
    """Return the difference of two accuracies (0-1) in points, such as "+1.2"."""
    points = round(100 * (value - reference), 1)
    if points:
        return f"{points:+.1f}".replace("-", "\N{MINUS SIGN}")
    return "0.0"


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
