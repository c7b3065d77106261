"""Tables of predictions from which chips are suggested."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from rsft.plugins.suggestions.suggest import suggest_chips
from tests.fuzz.classes.stores import TABLES, build_predictions
from tests.fuzz.target import Target


def _suggest(suffix: str, folder: Path) -> None:
    suggest_chips(folder / f"predictions{suffix}", 2)


TARGETS = [
    Target(
        f"suggested_{suffix[1:]}",
        partial(build_predictions, suffix),
        {f"predictions{suffix}": mutator},
        partial(_suggest, suffix),
    )
    for suffix, mutator in TABLES
]
"""All classes of input of this plug-in."""
