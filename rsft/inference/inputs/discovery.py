"""Which files are the chips."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pyarrow as pa

from rsft.data.imagery.reader import IMAGE_SUFFIXES
from rsft.errors import RequestError

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
    """Chips by file, folder (searched to the bottom), chip store, glob or @list; in folders alone the suffix decides.

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


def find_scenes(inputs: Sequence[Path]) -> list[Path]:
    """Scenes by path, glob or @list, in the order given; one that does not exist is left to its reader.

    Raises:
        RequestError: a glob without a match, or a list that cannot be read.
    """
    return [path for given in inputs for path in (_expand(given) if _is_many(given) else [given])]


def _is_many(given: Path) -> bool:
    return not given.exists() and (str(given).startswith("@") or any(sign in str(given) for sign in "*?["))


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
    if str(given).startswith("@"):
        return [path for line in _lines(Path(str(given)[1:])) for path in _expand(Path(line))]
    start = Path(given.anchor)
    try:
        matches = list(start.glob(str(given.relative_to(start))))
    except ValueError:  # not even a pattern
        matches = []
    if not matches:
        raise RequestError("there is no such file or folder, and no match", given, "check the path")
    return sorted(matches)


def _lines(file: Path) -> list[str]:
    """Of a list of paths, one a line, without those that are empty or begin with #."""
    try:
        lines = [line.strip() for line in file.read_text("utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError("the list cannot be read", file, "give a text file with a path a line") from error
    return [line for line in lines if line and line[0] != "#"]
