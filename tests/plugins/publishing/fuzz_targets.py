"""Chip stores that are described."""

from __future__ import annotations

from pathlib import Path

from rsft.plugins.publishing.croissant import write_croissant
from tests.fuzz.classes.stores import STORE, copy_of
from tests.fuzz.target import Target


def _describe(folder: Path) -> None:
    write_croissant(folder / "store", overwrite=True)


TARGETS = [
    Target(
        "croissant",
        copy_of("store", "store"),
        STORE,
        _describe,
        outputs=("store/croissant.json",),
    ),
]
"""All classes of input of this plug-in."""
