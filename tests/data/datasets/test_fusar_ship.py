"""FUSAR-Ship: files, metadata table, and contradictions between them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import xlwt
from PIL import Image

from rsft.data.datasets.fusar_ship import CATEGORIES, FUSARShip
from rsft.errors import DataError, RequestError

META = "id,mmsi,length,width,polarMode,centerLookAngle,heightspace,widthspace,path\r\n"
ROW = "Ship_C01S01N0001,477939300,138,26,DH,42.51,1.702183,1.124222,Cargo\\AggregatesCarrier\r\n"


def write_chip(path: Path, dtype: str = "uint8") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8)).astype(dtype)).save(path)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Chips of two categories, a name that occurs twice, and other files, two folders deep."""
    root = tmp_path / "download" / "FUSAR-Ship1.0"
    write_chip(root / "Cargo/AggregatesCarrier/Ship_C01S01N0001.tiff", "uint16")
    write_chip(root / "Cargo/BulkCarrier/Ship_C01S01N0001.tiff")
    write_chip(root / "Tanker/Tanker/Ship_C01S02N0003.tiff")
    write_chip(root / "SeaClutterWaves/SeaClutterWaves_1.tiff")
    (root / "Cargo/Thumbs.db").write_bytes(b"x")
    (root / "meta.csv").write_text(META + ROW, "utf-8", newline="")
    return root


def test_chips_have_the_values_of_the_table(archive: Path) -> None:
    chip = FUSARShip(archive).chips[0]
    assert (chip.category, chip.subcategory, chip.mmsi) == ("Cargo", "AggregatesCarrier", "477939300")
    assert (chip.length_m, chip.width_m, chip.polarization, chip.incidence_deg) == (138, 26, "DH", 42.51)
    assert chip.spacing_m == pytest.approx((1.702183 + 1.124222) / 2) and chip.flags == ()


def test_a_name_in_another_folder_is_another_chip(archive: Path) -> None:
    chip = FUSARShip(archive).chips[1]
    assert (chip.subcategory, chip.mmsi, chip.flags) == ("BulkCarrier", None, ("no-meta",))


def test_folder_determines_the_category_and_contradicting_index_is_flagged(archive: Path) -> None:
    chip = FUSARShip(archive).chips[2]
    assert (chip.category, chip.flags) == ("Tanker", ("category-index", "no-meta"))


def test_archive_is_found_by_content_and_other_files_are_counted(archive: Path) -> None:
    source = FUSARShip(archive.parents[1])
    assert source.root == archive and len(source) == 3
    assert source.skipped == {"SeaClutterWaves is not a ship category": 1, "not a .tiff file": 1}


def test_bad_rows_and_names_are_listed(archive: Path) -> None:
    write_chip(archive / "Tug/Tug/tug.tiff")
    spare = ROW.replace("N0001", "N0009")
    rows = [ROW, "Ship_C01S01N0002,1,long\r\n", spare]
    (archive / "meta.csv").write_text("\ufeff" + META + "".join(rows), "utf-8", newline="")
    source = FUSARShip(archive)
    assert [(Path(file).name, line) for file, line, _ in source.rejected] == [("meta.csv", 3), ("tug.tiff", 0)]
    assert source.skipped["row of the meta table without a chip"] == 1 and source.chips[0].mmsi == "477939300"


def test_tabs_separate_as_well(archive: Path) -> None:
    (archive / "meta.csv").write_text((META + ROW).replace(",", "\t"), "utf-8")
    assert FUSARShip(archive).chips[0].mmsi == "477939300"


def test_a_table_without_a_column_is_refused(archive: Path) -> None:
    (archive / "meta.csv").write_text("id,length\n", "utf-8")
    with pytest.raises(DataError, match="no column mmsi, width"):
        FUSARShip(archive)


def write_sheet(path: Path, rows: Sequence[Sequence[object]]) -> None:
    book = xlwt.Workbook()
    sheet = book.add_sheet("meta")
    for number, row in enumerate(rows):
        for column, value in enumerate(row):
            sheet.write(number, column, value)
    book.save(str(path))


CELLS = ("Ship_C01S01N0001", 477939300, 138, 26, "DH", 42.51, 1.702183, 1.124222)


def test_excel_table_gives_the_same_values(archive: Path) -> None:
    expected = FUSARShip(archive).chips[0]
    (archive / "meta.csv").unlink()
    sheet: list[Sequence[object]] = [META.strip().split(","), [*CELLS, "Cargo\\AggregatesCarrier"]]
    write_sheet(archive / "meta.xls", sheet)
    assert FUSARShip(archive).chips[0] == expected


def test_csv_has_precedence_over_excel(archive: Path) -> None:
    other = [*CELLS[:1], 1, *CELLS[2:], "Cargo\\AggregatesCarrier"]
    more = [*CELLS[:1], 2, *CELLS[2:], "Cargo\\BulkCarrier"]
    write_sheet(archive / "meta.xls", [META.strip().split(","), other, more])
    source = FUSARShip(archive)
    assert [chip.mmsi for chip in source.chips] == ["477939300", "2", None]
    assert [(Path(file).name, line) for file, line, _ in source.rejected] == [("meta.xls", 2)]


@pytest.mark.parametrize("content", [b"", b"no table", b"PK\x03\x04"])
def test_a_damaged_excel_table_is_refused(archive: Path, content: bytes) -> None:
    (archive / "meta.xls").write_bytes(content)
    with pytest.raises(DataError, match="not an Excel table"):
        FUSARShip(archive)


def test_another_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="does not contain FUSAR-Ship"):
        FUSARShip(tmp_path)


def test_samples_keep_their_values_and_can_be_plotted(archive: Path) -> None:
    source = FUSARShip(archive)
    sample = source[0]
    assert sample["image"].shape == (1, 8, 8) and CATEGORIES[int(sample["label"])] == "Cargo"
    assert source.plot(sample).axes[0].get_title() == "Cargo"
