"""The metadata table of FUSAR-Ship: meta.csv, meta.xls, or both."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pandas as pd
from python_calamine import CalamineError

from rsft.data.datasets._text import read_numbered_lines
from rsft.errors import DataError
from rsft.types import Rejection

META_COLUMNS = ("id", "mmsi", "length", "width", "polarMode", "centerLookAngle", "heightspace", "widthspace", "path")
META_FILES = ("meta.csv", "meta.xls", "meta.xlsx")
"""File names in order of precedence: the first row of a chip counts."""

FUSARMetadata = dict[tuple[str, str], dict[str, Any]]
"""Fields of a `FUSARChip` by folder and file stem; stems alone are not unique."""
_Rows = list[tuple[int, dict[str, str]]]


def read_fusar_metadata(folder: Path) -> tuple[FUSARMetadata, list[Rejection]]:
    """Read the metadata tables in a folder.

    Args:
        folder: the folder of the META_FILES.

    Returns:
        The metadata of each chip, and the rows that cannot be parsed or contradict an earlier row.

    Raises:
        DataError: a file is not a table with META_COLUMNS.
    """
    meta: FUSARMetadata = {}
    rejected: list[Rejection] = []
    for path in (folder / name for name in META_FILES):
        if not path.is_file():
            continue
        for number, row in _csv_rows(path) if path.suffix == ".csv" else _sheet_rows(path):
            try:
                key = row["path"].strip().replace("\\", "/"), Path(row["id"].strip()).stem
                fields = _parse_row(row)
            except (KeyError, ValueError):
                rejected.append((str(path), number, f"the row has no valid {', '.join(META_COLUMNS)}"))
                continue
            if meta.setdefault(key, fields) != fields:
                rejected.append((str(path), number, "the row contradicts an earlier row of this chip"))
    return meta, rejected


def _csv_rows(path: Path) -> _Rows:
    lines = read_numbered_lines(path)
    header = lines[0][1] if lines else ""
    delimiter = max(",\t;", key=header.count)
    columns = [name.strip() for name in header.split(delimiter)]
    _check_columns(columns, path)
    split = [(number, next(csv.reader([line], delimiter=delimiter))) for number, line in lines[1:]]
    return [(number, dict(zip(columns, fields, strict=False))) for number, fields in split]


def _sheet_rows(path: Path) -> _Rows:
    """Read the first sheet as text; integers get no decimal point, so an MMSI stays unchanged."""
    try:
        table = pd.read_excel(path, engine="calamine", dtype=str, keep_default_na=False)
    except (CalamineError, ValueError) as error:
        raise DataError("the file is not an Excel table", path, "copy or download the file again") from error
    table.columns = table.columns.astype(str).str.strip()
    _check_columns(list(table.columns), path)
    return [
        (number, {str(key): str(value) for key, value in row.items()})
        for number, row in enumerate(table.to_dict("records"), start=2)
    ]


def _check_columns(columns: list[str], path: Path) -> None:
    missing = [name for name in META_COLUMNS if name not in columns]
    if missing:
        hint = f"the table needs the columns {', '.join(META_COLUMNS)}"
        raise DataError(f"{path.name} has no column {', '.join(missing)}", path, hint)


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
