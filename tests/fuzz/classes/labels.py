"""Labels and lists of published data sets, and tables of corrections."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyogrio
from PIL import Image

from rsft.corrections.corrected_table import read_corrected_table
from rsft.data.datasets.dota import DOTAObjects, crop_object, read_rgb
from rsft.data.datasets.formats.label_table import LabelTable
from rsft.data.datasets.formats.labeled_files import LabeledFiles
from rsft.data.datasets.fusar_ship import FUSARShip
from rsft.data.datasets.fusrs import read_fusrs_list
from rsft.data.datasets.gaofen_chips import crop_srsdd_ship
from rsft.data.datasets.source_errors import translate_dataset_errors
from rsft.data.datasets.srsdd import SRSDD
from rsft.errors import DataError
from tests.data.datasets.dota.data import row, write_pair
from tests.data.datasets.fusar_ship.data import (
    CATEGORIES,
    META,
    write_fusar,
    write_sheet,
)
from tests.data.datasets.srsdd.data import HEADER, write_srsdd
from tests.fuzz.mutate import mutate_bytes, mutate_text, mutate_zip
from tests.fuzz.target import Target, read_with_each

CORRECTED = """\
path,class,verdict,predicted,scene,at,split
a/1.png,cargo,class,tanker,s.tif,7,train
a/2.png,,not a target,tanker,s.tif,8,
b/3.png,3,,cargo,,,val
"""
SHIPS = ["Cell-Container", "Fishing", "ore-oil"]
NAMES = ["Ship_C01S01N0001", "Ship_C04S01N0002"]
ROWS = [
    (name, 900000001, 100, 20, "DH", 30.5, 1.7, 1.1, f"{CATEGORIES[0]}\\Sub01")
    for name in NAMES
]


def _build_dota(folder: Path) -> None:
    rows = [
        row(5, 5, 30, 30),
        row(20, 10, 50, 40, "ship", 1),
        row(1, 30, 12, 50, "large-vehicle", 2),
    ]
    write_pair(folder, "imagesource:GoogleEarth\ngsd:0.5\n" + "".join(rows))
    write_pair(folder, "".join(rows), "P2", seed=1)


def _read_dota(folder: Path) -> list[str]:
    with translate_dataset_errors("DOTA", folder, ""):
        source = DOTAObjects(folder)
    for item in source.objects:
        crop_object(item, read_rgb(item.image.path))
    assert sum(item.image.path.stem == "P2" for item in source.objects) == 3, (
        "the objects beside it"
    )
    return [file for file, _, _ in source.rejected]


def _read_srsdd(folder: Path) -> list[str]:
    with translate_dataset_errors("SRSDD", folder, ""):
        source = SRSDD(folder, split="all")
    rejected = [file for file, _, _ in source.rejected]
    for ship in source.ships:
        try:
            crop_srsdd_ship(ship)
        except DataError:  # rejected, with its row
            assert ship.image.stem == "1", "a ship beside it"
    assert sum(ship.image.stem == "2" for ship in source.ships) == 3, (
        "the ships beside it"
    )
    return rejected


def _build_fusar_xlsx(folder: Path) -> None:
    write_fusar(folder, NAMES, meta=False)
    pyogrio.write_dataframe(
        pd.DataFrame(ROWS, columns=list(META)), folder / "meta.xlsx", driver="XLSX"
    )


def _build_fusar_xls(folder: Path) -> None:
    write_fusar(folder, NAMES, meta=False)
    write_sheet(folder / "meta.xls", ROWS)


def _read_fusar(folder: Path) -> None:
    with translate_dataset_errors("FUSAR-Ship", folder, ""):
        FUSARShip(folder)


def _build_images(folder: Path) -> None:
    for number, name in enumerate(("a/1.png", "a/2.png", "b/3.png")):
        (folder / name).parent.mkdir(exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 255, (8, 8), np.uint8)
        Image.fromarray(pixels).save(folder / name)


def _build_lists(folder: Path) -> None:
    _build_images(folder)
    rows = "a/1.png 0\na/2.png 0\nb/3.png 1\n"
    (folder / "train.txt").write_text(rows)
    (folder / "fusrs.txt").write_text("Ship_C01S01N0001.tiff 0\nL12_3.png 1\n")


def _read_lists(folder: Path) -> None:
    with translate_dataset_errors("FUSRS", folder, ""):
        read_fusrs_list(folder / "fusrs.txt", "train", 4)
    LabeledFiles(folder)


def _build_corrections(folder: Path) -> None:
    _build_images(folder)
    (folder / "corrected.csv").write_text(CORRECTED)


def _read_corrections(folder: Path) -> None:
    path = folder / "corrected.csv"
    read_with_each(
        partial(LabelTable, path, not_a_target="clutter"),
        partial(read_corrected_table, path),
    )


TARGETS = [
    Target("labels_dota", _build_dota, {"labelTxt/P1.txt": mutate_text}, _read_dota),
    Target(
        "labels_srsdd",
        lambda folder: write_srsdd(folder, dict.fromkeys((1, 2), SHIPS), header=HEADER),
        {"labels/1.txt": mutate_text},
        _read_srsdd,
    ),
    Target(
        "fusar_csv",
        lambda folder: write_fusar(folder, NAMES),
        {"meta.csv": mutate_text},
        _read_fusar,
    ),
    Target(
        "fusar_xlsx",
        _build_fusar_xlsx,
        {"meta.xlsx": mutate_zip(mutate_text)},
        _read_fusar,
    ),
    Target(
        "fusar_xls",
        _build_fusar_xls,
        {"meta.xls": mutate_bytes},
        _read_fusar,
    ),
    Target(
        "lists",
        _build_lists,
        dict.fromkeys(("train.txt", "fusrs.txt"), mutate_text),
        _read_lists,
    ),
    Target(
        "corrections_csv",
        _build_corrections,
        {"corrected.csv": mutate_text},
        _read_corrections,
    ),
]
