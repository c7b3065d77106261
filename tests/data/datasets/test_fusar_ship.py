"""FUSAR-Ship: files, metadata table, contradictions between them, and folders of other
copies."""

import os
from collections import Counter
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import ConcatDataset
from torchgeo.datasets import DatasetNotFoundError

from rsft.data.datasets.fusar_ship import FUSARShip
from tests.data.datasets.fusar_ship.data import (
    CATEGORIES,
    make_names,
    write_chip,
    write_fusar,
    write_sheet,
)
from tests.helpers.messages import mentions

META = "id,mmsi,length,width,polarMode,centerLookAngle,heightspace,widthspace,path\r\n"
ROW = "Ship_C01S01N0001,477939300,138,26,DH,42.51,1.702183,1.124222,Cargo\\AggregatesCarrier\r\n"


@pytest.fixture
def archive(tmp_path):
    """Chips of two categories, a name that occurs twice, and other files, two folders
    deep."""
    root = tmp_path / "download" / "FUSAR-Ship1.0"
    write_chip(root / "Cargo/AggregatesCarrier/Ship_C01S01N0001.tiff", dtype="uint16")
    write_chip(root / "Cargo/BulkCarrier/Ship_C01S01N0001.tiff")
    write_chip(root / "Tanker/Tanker/Ship_C01S02N0003.tiff")
    write_chip(root / "SeaClutterWaves/SeaClutterWaves_1.tiff")
    (root / "Cargo/Thumbs.db").write_bytes(b"x")
    (root / "meta.csv").write_text(META + ROW, "utf-8", newline="")
    return root


def test_the_table_describes_chips_and_the_folder_determines_the_category(archive):
    chip, other, tanker = FUSARShip(archive).chips
    assert (chip.category, chip.subcategory, chip.mmsi) == (
        "Cargo",
        "AggregatesCarrier",
        "477939300",
    )
    assert (chip.length_m, chip.width_m, chip.polarization, chip.incidence_deg) == (
        138,
        26,
        "DH",
        42.51,
    )
    assert (
        chip.spacing_m == pytest.approx((1.702183 + 1.124222) / 2) and chip.flags == ()
    )
    assert chip.name == other.name == "Ship_C01S01N0001"
    assert (other.subcategory, other.mmsi, other.flags) == (
        "BulkCarrier",
        None,
        ("no-meta",),
    )
    assert (tanker.category, tanker.flags) == ("Tanker", ("category-index", "no-meta"))


@pytest.mark.parametrize("above", [0, 1, 2])
def test_chips_lie_at_any_depth_and_other_files_are_counted(archive, above):
    dataset = FUSARShip([archive, *archive.parents][above])
    assert len(dataset) == 3 and dataset.chips[0].mmsi == "477939300"
    assert dataset.skipped == {
        "SeaClutterWaves is not a ship category": 1,
        "not a .tiff or .png file": 1,
    }


def test_bad_rows_and_names_are_listed(archive):
    write_chip(archive / "Tug/Tug/tug.tiff")
    spare = ROW.replace("N0001", "N0009")
    rows = [ROW, "Ship_C01S01N0002,1,long\r\n", spare]
    text = "\ufeff" + META + "".join(rows)
    (archive / "meta.csv").write_text(text.replace(",", "\t"), "utf-8", newline="")
    dataset = FUSARShip(archive)
    assert [(Path(file).name, line) for file, line, _ in dataset.rejected] == [
        ("meta.csv", 3),
        ("tug.tiff", 0),
    ]
    assert (
        dataset.skipped["row of the meta table without a chip"] == 1
        and dataset.chips[0].mmsi == "477939300"
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"id,length\n", "no column mmsi, width"),
        (b"\xff\xfe", "not UTF-8"),
        (b"", "no column"),
        (META.encode() + b"x" * 131_073, "meta.csv is not a CSV table: field larger"),
    ],
)
def test_a_table_without_its_columns_is_refused(archive, content, message):
    (archive / "meta.csv").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        FUSARShip(archive)


def test_a_file_of_24_gb_in_the_place_of_a_table_is_not_read(archive):
    os.truncate(archive / "meta.csv", 24 * 2**30)
    with pytest.raises(
        OSError,
        match=mentions("25,769,803,776 bytes", "limit is 268,435,456", "meta.csv"),
    ):
        FUSARShip(archive)


def test_a_table_of_another_dataset_is_not_read(archive):
    (archive.parent / "other").mkdir()
    (archive.parent / "other/meta.csv").write_text("a,b\n1,2\n")
    assert FUSARShip(archive.parent).chips[0].mmsi == "477939300"


CELLS = ("Ship_C01S01N0001", 477939300, 138, 26, "DH", 42.51, 1.702183, 1.124222)


def test_excel_table_gives_the_same_values(archive):
    expected = FUSARShip(archive).chips[0]
    (archive / "meta.csv").unlink()
    write_sheet(archive / "meta.xls", [[*CELLS, "Cargo\\AggregatesCarrier"]])
    assert FUSARShip(archive).chips[0] == expected


def test_csv_has_precedence_over_excel(archive):
    other = [*CELLS[:1], 1, *CELLS[2:], "Cargo\\AggregatesCarrier"]
    more = [*CELLS[:1], 2, *CELLS[2:], "Cargo\\BulkCarrier"]
    write_sheet(archive / "meta.xls", [other, more])
    dataset = FUSARShip(archive)
    assert [chip.mmsi for chip in dataset.chips] == ["477939300", "2", None]
    assert [(Path(file).name, line) for file, line, _ in dataset.rejected] == [
        ("meta.xls", 2)
    ]


@pytest.mark.parametrize("content", [b"", b"no table", b"PK\x03\x04"])
def test_a_damaged_excel_table_is_refused(archive, content):
    (archive / "meta.xls").write_bytes(content)
    with pytest.raises(ValueError, match="not an Excel table"):
        FUSARShip(archive)


@pytest.mark.slow
def test_an_excel_table_that_asks_for_all_memory(archive):
    write_sheet(archive / "meta.xls", [[*CELLS, "Cargo\\AggregatesCarrier"]])
    data = bytearray((archive / "meta.xls").read_bytes())
    # the first sector of the table of sectors
    start = 512 * (1 + int.from_bytes(data[76:80], "little"))
    for sector in range(128):
        # each one follows itself
        data[start + 4 * sector : start + 4 * sector + 4] = sector.to_bytes(4, "little")
    (archive / "meta.xls").write_bytes(data)
    with pytest.raises(
        ValueError,
        match=mentions("1024 MiB", "16,777,216 letters", "save it as meta.csv"),
    ):
        FUSARShip(archive)


def test_not_found(tmp_path):
    (tmp_path / "Cargo").mkdir()
    for root in (tmp_path, tmp_path / "missing"):
        with pytest.raises(DatasetNotFoundError, match="Dataset not found"):
            FUSARShip(root)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_samples_keep_their_values(tmp_path, dtype):
    write_chip(tmp_path / "Tug/Sub/Ship_C13S01N0001.tiff", dtype=dtype)
    dataset = FUSARShip(
        tmp_path, transforms=lambda sample: sample | {"seen": torch.ones(1)}
    )
    expected = np.asarray(Image.open(tmp_path / "Tug/Sub/Ship_C13S01N0001.tiff"))
    assert dataset[0]["image"].dtype == torch.float32 and dataset[0]["image"].shape == (
        1,
        8,
        8,
    )
    np.testing.assert_array_equal(dataset[0]["image"][0], expected)
    assert dataset[0]["label"] == 12 and dataset[0]["seen"] == 1


def test_equal_bands_are_one_and_others_are_refused(tmp_path):
    path = (
        write_fusar(tmp_path, ["Ship_C13S01N0001"], suffix=".png")
        / "Tug/Sub01/Ship_C13S01N0001.png"
    )
    gray = np.asarray(Image.open(path))
    for bands in (
        np.repeat(gray[..., None], 3, axis=2),
        np.stack([gray, gray, 255 - gray], axis=2),
    ):
        Image.fromarray(bands).save(path)
        if (bands[..., 2] == gray).all():
            np.testing.assert_array_equal(FUSARShip(tmp_path)[0]["image"][0], gray)
    with pytest.raises(ValueError, match="the 3 bands differ"):
        FUSARShip(tmp_path)[0]


def categories(root):
    return Counter(chip.category for chip in FUSARShip(root).chips)


def test_a_category_below_a_category_is_a_subcategory(tmp_path):
    for name, folder in (
        ("Ship_C07S01N0001", "Other/Fishing"),
        ("Ship_C07S02N0001", "Other/Tug"),
    ):
        write_chip(tmp_path / folder / f"{name}.tiff")
    write_chip(tmp_path / "Tanker/Tanker/Ship_C12S01N0001.tiff")
    assert categories(tmp_path) == {"Other": 2, "Tanker": 1}
    assert [chip.subcategory for chip in FUSARShip(tmp_path).chips] == [
        "Fishing",
        "Tug",
        "Tanker",
    ]


@pytest.mark.parametrize(
    ("folder", "counts"),
    [
        ("", {"SAR": 3}),
        ("SAR", {"SAR": 30, "Cargo": 10}),
        ("SAR", {"Cargo": 5, "SAR": 1}),
    ],
)
def test_the_category_sar_and_a_folder_sar(tmp_path, folder, counts):
    for name in make_names(counts):
        is_flat = folder and counts["SAR"] == 1
        path = (
            f"{name}.png"
            if is_flat
            else f"{CATEGORIES[int(name[6:8]) - 1]}/Sub/{name}.png"
        )
        write_chip(tmp_path / folder / path)
    assert categories(tmp_path) == counts


def test_a_folder_sar_above_folders_with_other_numbers(tmp_path):
    for category, index in (("Cargo", 4), ("Fishing", 12), ("Tanker", 1)):
        write_chip(tmp_path / f"SAR/{category}/Sub/Ship_C{index:02}S01N0001.tiff")
    assert categories(tmp_path) == {"Cargo": 1, "Fishing": 1, "Tanker": 1}
    assert all("category-index" in chip.flags for chip in FUSARShip(tmp_path).chips)


@pytest.mark.parametrize(
    "folder",
    ["cargo", "CARGO", "CargoShip", "cargo_ships", "01_Cargo", "Cargo vessels"],
)
def test_spellings_of_a_folder(tmp_path, folder):
    root = write_fusar(tmp_path, make_names({"Cargo": 2, "Tug": 1}))
    (root / "Cargo").rename(root / "_").rename(root / folder)
    dataset = FUSARShip(tmp_path)
    assert [
        (chip.category, chip.flags)
        for chip in dataset.chips
        if chip.category == "Cargo"
    ] == [("Cargo", ())] * 2
    assert dataset.skipped == {}


def test_names_without_a_category_are_no_ships(tmp_path):
    write_chip(tmp_path / "Cargo/Sub/Ship_C01S01N0001.tiff")
    write_chip(tmp_path / "Bridge/Sub/Ship_C16S01N0001.tiff")
    write_chip(tmp_path / "Cargo/Sub/Ship_C16S01N0001.tiff")
    dataset = FUSARShip(tmp_path)
    assert [chip.flags for chip in dataset.chips] == [
        ("no-meta",),
        ("category-index", "no-meta"),
    ]
    assert dataset.skipped == {"Sub is not a ship category": 1}


def test_links_are_followed_once_and_hidden_files_are_left_out(tmp_path):
    write_fusar(tmp_path / "raw", make_names({"Cargo": 2}))
    (tmp_path / "raw/Cargo/Sub01/._Ship_C01S01N0000.tiff").write_bytes(b"x")
    (tmp_path / "root").mkdir()
    (tmp_path / "root/Cargo").symlink_to(tmp_path / "raw/Cargo")
    (tmp_path / "raw/Cargo/loop").symlink_to(tmp_path / "root")
    dataset = FUSARShip(tmp_path / "root")
    assert len(dataset) == 2 and dataset.skipped == {} and dataset.rejected == []


class TestFUSARShip:
    """The tests that TorchGeo has for each of its data sets."""

    @pytest.fixture
    def dataset(self, tmp_path):
        write_fusar(tmp_path, make_names({"Cargo": 2, "Fishing": 2, "Tanker": 1}))
        return FUSARShip(tmp_path, transforms=nn.Identity())

    def test_getitem(self, dataset):
        x = dataset[4]
        assert isinstance(x, dict)
        assert isinstance(x["image"], torch.Tensor)
        assert x["image"].shape == (1, 16, 16)
        assert isinstance(x["label"], torch.Tensor)
        assert dataset.classes[x["label"]] == "Tanker"

    def test_len(self, dataset):
        assert len(dataset) == 5

    def test_add(self, dataset):
        ds = dataset + dataset
        assert isinstance(ds, ConcatDataset)
        assert len(ds) == 10

    def test_not_downloaded(self, tmp_path):
        with pytest.raises(DatasetNotFoundError, match="Dataset not found"):
            FUSARShip(tmp_path)

    def test_plot(self, dataset):
        x = dataset[0].copy()
        dataset.plot(x, suptitle="Test")
        plt.close()
        dataset.plot(x, show_titles=False)
        plt.close()
        x["prediction"] = torch.tensor(3)
        title = dataset.plot(x).axes[0].get_title()
        assert title == "Label: Cargo\nPrediction: Fishing"
        plt.close()
