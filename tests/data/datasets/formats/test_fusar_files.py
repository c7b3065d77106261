"""The chips of FUSAR-Ship in folders of any layout."""

from pathlib import Path

import pytest

from rsft.data.datasets.formats.fusar_files import (
    CONTRADICTION,
    FROM_NAME,
    NO_METADATA,
    FUSARChips,
    is_fusar_chip,
)


def write(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_names_of_chips():
    names = ("Ship_C01S02N0003.TIFF", "ship_c1s2n3.png", "Ship_C01S02.png", "a.tif")
    assert [is_fusar_chip(Path(name)) for name in names] == [True, True, False, False]


def test_the_folder_counts_before_the_name(tmp_path):
    write(
        tmp_path,
        "Tanker/Ship_C01S01N0001.tiff",
        "x/Ship_C12S01N0002.tiff",
        "Cargo/Sub/Ship_C01S01N0003.png",
        "Cargo/Sub/Ship_C01S01N0003.tiff",
        "Cargo/notes.tiff",
        "x/y.png",
    )
    source = FUSARChips(tmp_path)
    chips = {chip.name: chip for chip in source.chips}
    assert chips["Ship_C01S01N0001"].flags == (CONTRADICTION, NO_METADATA)
    assert chips["Ship_C01S01N0001"].named_category == "Cargo"
    assert chips["Ship_C12S01N0002"].category == "Tanker"
    assert chips["Ship_C12S01N0002"].flags == (FROM_NAME, NO_METADATA)
    assert chips["Ship_C01S01N0003"].path.suffix == ".tiff"
    assert source.skipped == {
        "copy of a chip in another format": 1,
        "x is not a ship category": 1,
    }
    assert [reason for _, _, reason in source.rejected] == [
        "the name is not Ship_CxxSyyNzzzz"
    ]


def test_renumbered_names_are_refused(tmp_path):
    write(tmp_path, "x/Ship_C01S01N0001.tiff", "x/Ship_C02S01N0002.tiff")
    with pytest.raises(ValueError, match="C01 to C02"):
        FUSARChips(tmp_path)


def test_a_table_beside_no_chip_is_not_read(tmp_path):
    write(tmp_path, "data/x/Ship_C01S01N0001.tiff")
    (tmp_path / "other").mkdir()
    (tmp_path / "other/meta.csv").write_bytes(b"\xff\xfe no table")
    (chip,) = FUSARChips(tmp_path).chips
    assert NO_METADATA in chip.flags
    (tmp_path / "data/meta.csv").write_bytes(b"\xff\xfe no table")
    with pytest.raises(ValueError, match=r"meta\.csv"):
        FUSARChips(tmp_path)
