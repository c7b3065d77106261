"""Write a small FUSAR-Ship archive of noise in the published format: python data.py
FOLDER."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

CATEGORIES = (
    "Cargo",
    "DiveVessel",
    "Dredger",
    "Fishing",
    "HighSpeedCraft",
    "LawEnforce",
    "Other",
    "Passenger",
    "PortTender",
    "Reserved",
    "SAR",
    "Tanker",
    "Tug",
    "Unspecified",
    "WingInGrnd",
)
META = (
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


def write_fusar(
    root: Path,
    names: Iterable[str],
    *,
    vessels: int = 3,
    suffix: str = ".tiff",
    meta: bool = True,
) -> Path:
    """Write one chip per name in the folder of its category; `vessels` consecutive
    chips share an MMSI."""
    rows = []
    for index, name in enumerate(sorted(set(names))):
        folder = f"{CATEGORIES[int(name[6:8]) - 1]}/Sub{name[9:11]}"
        write_chip(
            root / folder / f"{name}{suffix}",
            seed=int(name[6:8]) * 10**6 + int(name[-4:]),
            size=16,
        )
        mmsi = 900_000_000 + index // vessels
        rows.append(
            (name, mmsi, 100, 20, "DH", 30.5, 1.7, 1.1, folder.replace("/", "\\"))
        )
    if meta:
        with (root / "meta.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([META, *rows])
    return root


def write_chip(path: Path, seed: int = 0, size: int = 8, dtype: str = "uint8") -> None:
    """Write a chip of noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(
        np.random.default_rng(seed).integers(0, 256, (size, size)).astype(dtype)
    ).save(path)


def write_sheet(path: Path, rows: Iterable[Sequence[object]]) -> None:
    """Write the meta table as an Excel file."""
    import xlwt

    book = xlwt.Workbook()
    sheet = book.add_sheet("meta")
    for number, row in enumerate([META, *rows]):
        for column, value in enumerate(row):
            sheet.write(number, column, value)
    book.save(str(path))


def make_names(counts: dict[str, int]) -> list[str]:
    """Return names of chips: `counts` of each category."""
    starts = {
        category: f"Ship_C{CATEGORIES.index(category) + 1:02}S01N"
        for category in counts
    }
    return [
        f"{starts[category]}{number:04}"
        for category, count in counts.items()
        for number in range(count)
    ]


if __name__ == "__main__":
    write_fusar(Path(sys.argv[1]), make_names({"Cargo": 2, "Fishing": 2, "Tanker": 1}))
