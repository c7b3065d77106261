"""Which files are the chips."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rsft.errors import RequestError
from rsft.imagery.read import IMAGE_SUFFIXES

_MANIFEST = "manifest.parquet"  # of a chip store


class Found(NamedTuple):
    """Chips, sorted and each once, and how many files of folders were no images by their suffix."""

    chips: list[Path]
    skipped: int


def find_chips(inputs: Sequence[Path]) -> Found:
    """Chips by file, folder (searched to the bottom), chip store or glob; only in folders does the suffix decide.

    Raises:
        RequestError: an input that does not exist, or no chip at all.
    """
    chips: set[Path] = set()
    skipped: set[Path] = set()
    for given in inputs:
        for path in _expand(given):
            if path.is_dir():
                path = path / "chips" if (path / _MANIFEST).is_file() else path  # its figures are no chips
                files = {file for file in path.rglob("*") if file.is_file()}
                images = {file for file in files if file.suffix.lower() in IMAGE_SUFFIXES}
                chips |= images
                skipped |= files - images
            else:
                chips.add(path)
    if not chips:
        suffixes = " ".join(sorted(IMAGE_SUFFIXES))
        raise RequestError(
            "there are no chips", ", ".join(map(str, inputs)), f"in folders, files ending in {suffixes} count"
        )
    return Found(sorted(chips), len(skipped - chips))


def _expand(given: Path) -> list[Path]:
    if given.exists():
        return [given]
    start = Path(given.anchor)
    try:
        matches = list(start.glob(str(given.relative_to(start))))
    except ValueError:  # not even a pattern
        matches = []
    if not matches:
        raise RequestError("there is no such file or folder, and no match", given, "check the path")
    return matches
