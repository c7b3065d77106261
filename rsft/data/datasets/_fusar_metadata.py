"""The table that comes with FUSAR-Ship: meta.csv, meta.xls, or both."""

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
"""In order of precedence: the first row of a chip counts."""

FUSARMetadata = dict[tuple[str, str], dict[str, Any]]  # (folder, file name without suffix): names alone collide
_Rows = list[tuple[int, dict[str, str]]]


def read_fusar_metadata(folder: Path) -> tuple[FUSARMetadata, list[Rejection]]:
    """What the tables in `folder` say of each chip, and the rows that cannot be read or contradict an earlier one.

    Raises:
        DataError: a file that is no table of META_COLUMNS.
    """
    meta: FUSARMetadata = {}
    rejected: list[Rejection] = []
    for path in (folder / name for name in META_FILES):
        if not path.is_file():
            continue
        for number, row in _csv_rows(path) if path.suffix == ".csv" else _sheet_rows(path):
            try:
                key, facts = (row["path"].strip().replace("\\", "/"), Path(row["id"].strip()).stem), _facts(row)
            except (KeyError, ValueError):
                rejected.append((str(path), number, f"the row is not {', '.join(META_COLUMNS)}"))
                continue
            if meta.setdefault(key, facts) != facts:
                rejected.append((str(path), number, "an earlier row says something else of this chip"))
    return meta, rejected


def _csv_rows(path: Path) -> _Rows:
    lines = read_numbered_lines(path)
    header = lines[0][1] if lines else ""
    delimiter = max(",\t;", key=header.count)
    columns = [name.strip() for name in header.split(delimiter)]
    _check(columns, path)
    split = [(number, next(csv.reader([line], delimiter=delimiter))) for number, line in lines[1:]]
    return [(number, dict(zip(columns, fields, strict=False))) for number, fields in split]


def _sheet_rows(path: Path) -> _Rows:
    """The first sheet; whole numbers come without a decimal point, so that an MMSI stays one."""
    try:
        table = pd.read_excel(path, engine="calamine", dtype=str, keep_default_na=False)
    except (CalamineError, ValueError) as error:
        raise DataError("the file is no Excel table", path, "copy or download the file again") from error
    table.columns = table.columns.astype(str).str.strip()
    _check(list(table.columns), path)
    return [
        (number, {str(key): str(value) for key, value in row.items()})
        for number, row in enumerate(table.to_dict("records"), start=2)
    ]


def _check(columns: list[str], path: Path) -> None:
    missing = [name for name in META_COLUMNS if name not in columns]
    if missing:
        raise DataError(f"{path.name} has no column {', '.join(missing)}", path, f"wanted: {', '.join(META_COLUMNS)}")


def _facts(row: dict[str, str]) -> dict[str, Any]:
    height, width = float(row["heightspace"]), float(row["widthspace"])
    return {
        "mmsi": row["mmsi"].strip(),
        "length_m": float(row["length"]),
        "width_m": float(row["width"]),
        "polarisation": row["polarMode"].strip(),
        "incidence_deg": float(row["centerLookAngle"]),
        "spacing_m": (height + width) / 2,
    }
