"""Which files are the chips."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pyarrow as pa

from rsft.errors import RequestError
from rsft.imagery.read import IMAGE_SUFFIXES

_MANIFEST = "manifest.parquet"  # of a chip store


class Declared(NamedTuple):
    """What is known of a chip beside its pixels; None where nothing is said."""

    unit: str | None = None
    bands: tuple[str, ...] | None = None
    spacing_m: float | None = None

    def or_else(self, other: Declared) -> Declared:
        """What is said here, else what is said there."""
        return Declared(self.unit or other.unit, self.bands or other.bands, self.spacing_m or other.spacing_m)


NOTHING = Declared()


class Found(NamedTuple):
    """Chips, sorted and each once; how many files of folders were no images by their suffix; what stores declare."""

    chips: list[Path]
    skipped: int
    declared: dict[Path, Declared]


def find_chips(inputs: Sequence[Path]) -> Found:
    """Chips by file, folder (searched to the bottom), chip store or glob; only in folders does the suffix decide.

    Raises:
        RequestError: an input that does not exist, or no chip at all.
    """
    chips: set[Path] = set()
    skipped: set[Path] = set()
    declared: dict[Path, Declared] = {}
    for given in inputs:
        for path in _expand(given):
            if path.is_dir():
                if (path / _MANIFEST).is_file():
                    declared |= _declared(path)
                    path = path / "chips"  # its figures are no chips
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
    return Found(sorted(chips), len(skipped - chips), declared)


def _declared(store: Path) -> dict[Path, Declared]:
    try:
        table = pd.read_parquet(store / _MANIFEST, columns=["path", "unit", "bands", "spacing_m"])
    except (OSError, ValueError, pa.ArrowException) as error:
        raise RequestError("the manifest cannot be read", store / _MANIFEST, "make it with `rsft prepare`") from error
    spacings = [None if pd.isna(metres) else float(metres) for metres in table["spacing_m"]]
    rows = zip(table["path"], table["unit"], table["bands"], spacings, strict=True)
    return {store / path: Declared(unit, tuple(bands.split(",")), metres) for path, unit, bands, metres in rows}


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
