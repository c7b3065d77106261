"""The metadata tables of FUSAR-Ship."""

import subprocess

import pytest

from rsft.data.datasets.formats.fusar_metadata import (
    META_COLUMNS,
    Metadata,
    normalize_folder_name,
    read_sheet,
)

ROW = "Ship_C01S02N0001.tiff;412000001;100;20;DH;30.5;1.7;1.1;Cargo\\Sub02"


def write(folder, *rows):
    path = folder / "meta.csv"
    path.write_text("\n".join([";".join(META_COLUMNS), *rows]))
    return path


def test_a_row_is_found_with_or_without_the_folder_below_the_category(tmp_path):
    metadata = Metadata([write(tmp_path, ROW)])
    fields = metadata.find("01_Cargo", "sub_02", "ship_c01s02n0001")
    assert fields["mmsi"] == "412000001" and fields["spacing_m"] == pytest.approx(1.4)
    assert metadata.find("Cargo", "", "Ship_C01S02N0001") is fields
    assert metadata.find("Cargo", "Sub03", "Ship_C01S02N0001") == {}
    assert len(metadata.used) == 1


def test_faulty_and_contradicting_rows_are_rejected(tmp_path):
    rows = (ROW, ROW, ROW.replace("100", "90"), ROW.replace("30.5", "x"))
    metadata = Metadata([write(tmp_path, *rows)])
    assert [line for _, line, _ in metadata.rejected] == [4, 5]
    assert "contradicts" in metadata.rejected[0][2]


def test_tables_without_the_columns_are_refused(tmp_path):
    (tmp_path / "meta.csv").write_text("id,mmsi\n")
    with pytest.raises(ValueError, match="has no column length"):
        Metadata([tmp_path / "meta.csv"])
    with pytest.raises(ValueError, match="not an Excel table"):
        read_sheet(tmp_path)


@pytest.mark.parametrize("name", ["Cargo", "01_Cargo", "CargoShips", "cargo vessel"])
def test_names_of_folders(name):
    assert normalize_folder_name(name) == "cargo"


def test_a_sheet_that_takes_for_ever_is_refused(tmp_path, monkeypatch):
    def wait(command, **options):
        raise subprocess.TimeoutExpired(command, options["timeout"])

    (tmp_path / "meta.xls").write_bytes(b"x")
    monkeypatch.setattr(subprocess, "run", wait)
    with pytest.raises(ValueError, match=r"meta\.xls is not an Excel table"):
        read_sheet(tmp_path / "meta.xls")
