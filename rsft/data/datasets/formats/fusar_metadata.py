"""The metadata tables of FUSAR-Ship: meta.csv, meta.xls or meta.xlsx."""

import csv
import json
import os
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rsft.data.datasets.formats.text_files import Rejected, read_text_lines

META_COLUMNS = (
    "id",
    "mmsi",
    "length",
    "width",
    "polarMode",
    "centerLookAngle",
    "heightspace",
    "widthspace",
    "path",
)
META_FILES = ("meta.csv", "meta.xls", "meta.xlsx")
"""File names in order of precedence: the first row of a chip counts."""

MAX_SHEET_BYTES = 2**26
"""Largest spreadsheet: 64 MiB. The one of FUSAR-Ship has 1 MB."""

_MEMORY = 2**30  # bytes of address space for the other process
_SECONDS = 120
_MAX_TEXT = 2**24  # letters of all cells; those of FUSAR-Ship have 1 million
_PROGRAM = f"""
import sys, json
from python_calamine import CalamineWorkbook
try:
    import resource
    resource.setrlimit(resource.RLIMIT_AS, ({_MEMORY},) * 2)
except (ImportError, ValueError, OSError):  # Windows
    pass
def text(cell):
    is_whole = isinstance(cell, float) and cell.is_integer()
    return str(int(cell) if is_whole else cell)
sheet = CalamineWorkbook.from_path(sys.argv[1]).get_sheet_by_index(0)
rows = sheet.to_python(skip_empty_area=False)
rows = [[text(cell) for cell in row] for row in rows]
if sum(len(cell) + 4 for row in rows for cell in row) > {_MAX_TEXT}:
    sys.exit(1)
json.dump(rows, sys.stdout)
"""

_Key = tuple[str, str, str]
"""Category, folder below the category and file stem, each normalized."""


def normalize_folder_name(name: str) -> str:
    """Return the letters of a folder name in lower case, without ship, vessel and boat.

    "Cargo", "01_Cargo" and "CargoShips" become "cargo".
    """
    letters = re.sub(r"[\W\d_]", "", name.lower())
    return re.sub(r"(?<=.)(ship|vessel|boat)?s?$", "", letters)


class Metadata:
    """The rows of the metadata tables of an archive.

    Attributes:
        rejected: file, line and reason of rows that cannot be parsed or contradict an
            earlier row.
        rows: the fields of a `FUSARChip` by category, folder below the category and
            stem, each normalized.
        used: keys of the rows that `find` returned.

    Raises:
        ValueError: a file is not a table with META_COLUMNS.
        OSError: a file cannot be read.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.rejected: Rejected = []
        self.rows: dict[_Key, dict[str, Any]] = {}
        self.used: set[_Key] = set()
        self._keys = defaultdict[tuple[str, str], list[_Key]](list)

        def precedence(path: Path) -> tuple[int, Path]:
            return META_FILES.index(path.name.lower()), path

        for path in sorted(paths, key=precedence):
            for number, row in _read_rows(path):
                fault = self._add(row)
                if fault:
                    self.rejected.append((str(path), number, fault))

    def find(self, category: str, subcategory: str, stem: str) -> dict[str, Any]:
        """Return the fields of a `FUSARChip`; empty if no row describes the chip.

        Args:
            category: category of the chip.
            subcategory: folder of the chip below its category. Copies without such
                folders have "", which matches the only row of that category and stem.
            stem: file name without suffix.
        """
        key = _normalize_key(category, subcategory, stem)
        keys = self._keys[key[0], key[2]]
        if not subcategory and len(keys) == 1:
            key = keys[0]
        if key not in self.rows:
            return {}
        self.used.add(key)
        return self.rows[key]

    def _add(self, row: dict[str, str]) -> str:
        """Add a row, and return why it cannot be used, or ""."""
        try:
            folder = row["path"].strip().strip("\\/").replace("\\", "/")
            stem = Path(row["id"].strip()).stem
            spacing = (float(row["heightspace"]) + float(row["widthspace"])) / 2
            fields = {
                "mmsi": row["mmsi"].strip(),
                "length_m": float(row["length"]),
                "width_m": float(row["width"]),
                "polarization": row["polarMode"].strip(),
                "incidence_deg": float(row["centerLookAngle"]),
                "spacing_m": spacing,
            }
        except (KeyError, ValueError):
            return f"the row has no valid {', '.join(META_COLUMNS)}"
        category, _, subcategory = folder.partition("/")
        key = _normalize_key(category, subcategory, stem)
        if key not in self.rows:
            self.rows[key] = fields
            self._keys[key[0], key[2]].append(key)
        elif self.rows[key] != fields:
            return "the row contradicts an earlier row of this chip"
        return ""


def _normalize_key(category: str, subcategory: str, stem: str) -> _Key:
    folder = re.sub(r"[\W_]", "", subcategory.lower())
    return normalize_folder_name(category), folder, stem.lower()


def _read_rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield line number and values by column of the rows of a table."""
    if path.suffix.lower() == ".csv":
        rows = _read_csv(path)
    else:
        rows = list(enumerate(read_sheet(path), start=1))
    columns = [name.strip() for name in rows[0][1]] if rows else []
    missing = [name for name in META_COLUMNS if name not in columns]
    if missing:
        raise ValueError(f"{path} has no column {', '.join(missing)}")
    for number, cells in rows[1:]:
        yield number, dict(zip(columns, cells, strict=False))


def _read_csv(path: Path) -> list[tuple[int, list[str]]]:
    rows = []
    delimiter = ""
    for number, line in read_text_lines(path):
        delimiter = delimiter or max(",\t;", key=line.count)
        try:
            rows.append((number, next(csv.reader([line], delimiter=delimiter))))
        except csv.Error as error:  # a cell is too long
            raise ValueError(f"{path} is not a CSV table: {error}") from error
    return rows


def read_sheet(path: Path) -> list[list[str]]:
    """Read the first sheet of an .xls or .xlsx file as text.

    Whole numbers get no decimal point, so an MMSI is kept. A process of its own reads
    the file with limited memory: a damaged .xls can ask for any amount of it.

    Returns:
        The cells of all rows.

    Raises:
        ValueError: the file is too large, is not a spreadsheet, or cannot be read
            within the limits.
        OSError: no process can be started.
    """
    fault = ValueError(
        f"{path} is not an Excel table of at most {MAX_SHEET_BYTES:,} bytes and"
        f" {_MAX_TEXT:,} letters that can be read within {_SECONDS} s and"
        f" {_MEMORY >> 20} MiB; save it as meta.csv"
    )
    if not path.is_file() or path.stat().st_size > MAX_SHEET_BYTES:
        raise fault
    command = [sys.executable, "-c", _PROGRAM, str(path)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8"}
    try:
        result = subprocess.run(
            command, capture_output=True, timeout=_SECONDS, check=False, env=environment
        )
    except subprocess.TimeoutExpired as error:
        raise fault from error
    if result.returncode:
        raise fault
    return list(json.loads(result.stdout))
