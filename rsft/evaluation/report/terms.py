"""Explain terms on a page with the words of docs/glossary.md."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from markupsafe import Markup, escape

_ENTRIES = {
    "head": "head, medium, tail",
    "medium": "head, medium, tail",
    "Head": "head, medium, tail",
    "Medium": "head, medium, tail",
    "Tail": "head, medium, tail",
    "All classes": "macro accuracy",
    "tail": "head, medium, tail",
    "mean recall": "recall",
    "class-balanced k-NN": "k-NN",
    "plain k-NN": "k-NN",
    "baseline": "baseline",
    "logit-adjusted": "logit adjustment",
    "linear probe": "linear probe",
    "calibrated": "calibration of probabilities",
    "intervals": "interval",
}
"""Words of the sentences of a page that are explained there, with their entries of the glossary."""

_LINK = re.compile(r"\[([^\]]*)\]\([^)]*\)")
_REFERENCE = re.compile(r"See (?:also )?(?:\[[^\]]*\]\([^)]*\)(?:, | and )?)+\.")  # a sentence that names other pages

_BUTTON = Markup(
    '<button type="button" class="term" popovertarget="{id}" popovertargetaction="show" aria-describedby="{id}">'
    "{text}</button>"
)


def glossary_path() -> Path:
    """Return the path of glossary.md: inside the installed package, or in docs/ of a checkout."""
    inside = Path(__file__).parent / "glossary.md"
    return inside if inside.is_file() else Path(__file__).parents[3] / "docs" / "glossary.md"


@cache
def read_glossary() -> Mapping[str, str]:
    """Read the first paragraph of each entry of the glossary, as text without links and references to other pages.

    Returns:
        Entry and text, by the entry in lower case; empty if the file is missing, so that pages have no explanations.
    """
    path = glossary_path()
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    entries = [entry.strip().split("\n\n") for entry in re.split(r"^## ", text, flags=re.MULTILINE)[1:]]
    return {name.lower(): f"{name}: {_plain_text(first)}" for name, first, *_ in entries}


def _plain_text(paragraph: str) -> str:
    text = _LINK.sub(r"\1", _REFERENCE.sub("", " ".join(paragraph.split())))
    return re.sub(r"[`*]", "", text).strip()


class Terms:
    """The terms that a page explains. A term is a button that shows its definition, without a script as well."""

    def __init__(self) -> None:
        self._used: dict[str, str] = {}

    def term(self, text: str, entry: str = "") -> Markup:
        """Return a term with its definition.

        Args:
            text: the term as it stands on the page.
            entry: its entry of the glossary, if it has another name.

        Returns:
            HTML; the text alone if the glossary has no such entry.
        """
        entry = (entry or _ENTRIES.get(text, text)).lower()
        definition = read_glossary().get(entry)
        if definition is None:
            return escape(text)
        name = "term-" + re.sub(r"\W+", "-", entry)
        self._used[name] = definition
        return _BUTTON.format(id=name, text=text)

    def mark(self, sentences: str) -> Markup:
        """Return sentences in which the first occurrence of each known word is a term.

        Args:
            sentences: plain text.
        """
        seen: set[str] = set()

        def replace(match: re.Match[str]) -> str:
            is_new = match[0] not in seen
            seen.add(match[0])
            return str(self.term(match[0])) if is_new else match[0]

        words = "|".join(map(re.escape, sorted(_ENTRIES, key=len, reverse=True)))
        return Markup(re.sub(rf"\b(?:{words})\b", replace, str(escape(sentences))))

    def used(self) -> Mapping[str, str]:
        """Return the definitions of the terms so far, by the id of their element."""
        return self._used
