"""The metadata table of FUSAR-Ship: meta.csv, meta.xls, or both."""

from __future__ import annotations

import csv
import pathlib
import re
from collections.abc import Sequence
from typing import Any

from .sheet_reader import read_sheet

META_COLUMNS = ("id", "mmsi", "length", "width", "polarMode", "centerLookAngle", "heightspace", "widthspace", "path")
META_FILES = ("meta.csv", "meta.xls", "meta.xlsx")
"""File names in order of precedence: the first row of a chip counts."""

_Key = tuple[str, str, str]  # category, folder below the category and file stem, each normalized
_Rows = list[tuple[int, dict[str, str]]]


def normalize_folder_name(name: str) -> str:
    """Return a folder name in lower case, without digits, spaces, hyphens, underscores and the words ship and vessel.

    Args:
        name: name of a folder, such as "Cargo", "01_Cargo", "cargo" or "CargoShips".

    Returns:
        The normalized name, such as "cargo".
    """
    letters = re.sub(r"[\W\d_]", "", name.lower())
    return re.sub(r"(?<=.)(ship|vessel|boat)?s?$", "", letters)


class FUSARMetadata:
    """The rows of the metadata tables of an archive.

    Args:
        paths: the tables.

    Attributes:
        rejected: file, line and reason of rows that cannot be parsed or contradict an earlier row.

    Raises:
        ValueError: a file is not a table with META_COLUMNS.
        OSError: a file cannot be read.
    """

    def __init__(self, paths: Sequence[pathlib.Path]) -> None:
        self.rejected: list[tuple[str, int, str]] = []
        self._rows: dict[_Key, dict[str, Any]] = {}
        self._keys: dict[tuple[str, str], list[_Key]] = {}  # by category and stem
        self._used: set[_Key] = set()
        for path in sorted(paths, key=lambda path: (META_FILES.index(path.name.lower()), path)):
            for number, row in _csv_rows(path) if path.suffix.lower() == ".csv" else _sheet_rows(path):
                self._add(path, number, row)

    @property
    def unused(self) -> int:
        """Number of rows that `find` never returned."""
        return len(self._rows) - len(self._used)

    def find(self, category: str, subcategory: str, stem: str) -> dict[str, Any]:
        """Return the metadata of a chip.

        Args:
            category: category of the chip.
            subcategory: folder of the chip below its category. Copies without such folders have "", which matches the
                only row of that category and stem.
            stem: file name without suffix.

        Returns:
            The fields of a `FUSARChip` by name; empty if no row describes the chip.
        """
        key = (normalize_folder_name(category), _normalize_path(subcategory), stem.lower())
        if not subcategory:
            keys = self._keys.get((key[0], key[2]), [])
            key = keys[0] if len(keys) == 1 else key
        if key not in self._rows:
            return {}
        self._used.add(key)
        return self._rows[key]

    def _add(self, path: pathlib.Path, number: int, row: dict[str, str]) -> None:
        try:
            category, _, subcategory = row["path"].strip().strip("\\/").replace("\\", "/").partition("/")
            stem = pathlib.Path(row["id"].strip()).stem.lower()
            fields = _parse_row(row)
        except (KeyError, ValueError):
            self.rejected.append((str(path), number, f"the row has no valid {', '.join(META_COLUMNS)}"))
            return
        key = (normalize_folder_name(category), _normalize_path(subcategory), stem)
        if key not in self._rows:
            self._rows[key] = fields
            self._keys.setdefault((key[0], stem), []).append(key)
        elif self._rows[key] != fields:
            self.rejected.append((str(path), number, "the row contradicts an earlier row of this chip"))


def _normalize_path(path: str) -> str:
    return re.sub(r"[\W_]", "", path.lower())


def _csv_rows(path: pathlib.Path) -> _Rows:
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text") from error
    numbered = [(number, line.strip()) for number, line in enumerate(lines, 1) if line.strip()]
    header = numbered[0][1] if numbered else ""
    delimiter = max(",\t;", key=header.count)
    columns = [name.strip() for name in header.split(delimiter)]
    _check_columns(columns, path)
    split = [(number, next(csv.reader([line], delimiter=delimiter))) for number, line in numbered[1:]]
    return [(number, dict(zip(columns, fields, strict=False))) for number, fields in split]


def _sheet_rows(path: pathlib.Path) -> _Rows:
    """Read the first sheet as text; integers get no decimal point, so an MMSI stays unchanged."""
    header, *rows = read_sheet(path) or [[]]
    columns = [name.strip() for name in header]
    _check_columns(columns, path)
    return [(number, dict(zip(columns, cells, strict=False))) for number, cells in enumerate(rows, start=2)]


def _check_columns(columns: list[str], path: pathlib.Path) -> None:
    missing = [name for name in META_COLUMNS if name not in columns]
    if missing:
        raise ValueError(f"{path} has no column {', '.join(missing)}")


def _parse_row(row: dict[str, str]) -> dict[str, Any]:
    height, width = float(row["heightspace"]), float(row["widthspace"])
    return {
        "mmsi": row["mmsi"].strip(),
        "length_m": float(row["length"]),
        "width_m": float(row["width"]),
        "polarization": row["polarMode"].strip(),
        "incidence_deg": float(row["centerLookAngle"]),
        "spacing_m": (height + width) / 2,
    }
