"""OpenSARShip: three products of a scene, and records with and without a chip."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import rasterio
import torch
from matplotlib import pyplot as plt
from torch import nn
from torch.utils.data import ConcatDataset
from torchgeo.datasets import DatasetNotFoundError

from rsft.plugins.opensarship.opensarship import OpenSARShip, ship_kind
from rsft.plugins.opensarship.ship_files import (
    OpenSARShipProduct,
    read_opensarship_pixels,
    read_ship_records,
)
from tests.helpers.messages import mentions
from tests.plugins.opensarship.data import (
    GRD,
    RECORD,
    SINGLE,
    SLC,
    write_scene,
    write_tiff,
)

pytestmark = pytest.mark.filterwarnings(
    "ignore::rasterio.errors.NotGeoreferencedWarning"
)

SHIPS = {"Cargo_x3_y4": 70, "Other Type_x5_y6": 0}


def bands_of(path):
    with rasterio.open(path) as file:
        return np.asarray(file.read())


@pytest.mark.parametrize("scene", [GRD, SLC])
def test_each_product_has_its_pixels(tmp_path, scene):
    folder = write_scene(tmp_path, scene, SHIPS)
    patch = bands_of(folder / "Patch/Cargo_x3_y4.tif")
    cal = bands_of(folder / "Patch_Cal/Cargo_x3_y4.tif")
    eye = [
        bands_of(folder / f"Patch_Uint8/Visual_Cargo_x3_y4_{band}.tif")[0]
        for band in ("vh", "vv")
    ]
    amplitude = np.hypot(patch[::2], patch[1::2]) if scene == SLC else patch
    expected_pixels: dict[OpenSARShipProduct, np.ndarray] = {
        "patch": amplitude,
        "cal": cal,
        "uint8": np.stack(eye),
    }
    for product, expected in expected_pixels.items():
        source = OpenSARShip(tmp_path, product)
        pixels = read_opensarship_pixels(source.chips[0], product)
        np.testing.assert_array_equal(pixels.transpose(2, 0, 1), expected)
        assert pixels.dtype == (np.uint8 if product == "uint8" else np.float32)
        assert source.chips[0].bands == ("VH", "VV") and source.rejected == []


def test_a_chip_is_joined_to_its_record(tmp_path):
    write_scene(tmp_path / "deep/down", GRD, SHIPS)
    chip = OpenSARShip(tmp_path).chips[0]
    assert (chip.scene, chip.category, chip.sensor) == (GRD, "Cargo", "S1A IW GRDH")
    assert (chip.mmsi, chip.incidence_deg) == ("477207300", 34.5)
    assert chip.length_m is chip.marinetraffic_type is None and chip.beam_m == 32


@pytest.mark.parametrize(
    ("marinetraffic", "known", "kind", "conflict"),
    [
        ("Bulk Carrier", "Bulk Carrier", "Cargo", True),
        ("Container Ship", "Container Ship", "Cargo", True),
        ("Ro-Ro/Passenger Ship", "Ro-Ro/Passenger Ship", "Passenger", True),
        ("Oil/Chemical Tanker", "Oil/Chemical Tanker", "Tanker", True),
        ("Tanker - Hazard D (Recognizable)", "Tanker", "Tanker", True),
        ("Fishing", "Fishing", "Other", False),
        ("Law Enforce", "Law Enforcement", "Other", False),
        ("NA", None, "Other", False),
        ("", None, "Other", False),
        ("Unspecified", None, "Other", False),
        ("Reserved", None, "Other", False),
    ],
)
def test_the_type_of_marinetraffic_is_the_label_where_it_is_known(
    tmp_path, marinetraffic, known, kind, conflict
):
    write_scene(
        tmp_path,
        GRD,
        {"Other Type_x5_y6": 99},
        types={"Other Type_x5_y6": marinetraffic},
    )
    source = OpenSARShip(tmp_path)
    (chip,) = source.chips
    assert (chip.marinetraffic_type, chip.flags) == (
        known,
        ("label-conflict",) if conflict else (),
    )
    assert (
        source.classes == [known or "Other Type"]
        and ship_kind(source.classes[0]) == kind
    )
    assert OpenSARShip(tmp_path, label="ais").classes == ["Other Type"]
    unknown: Any = "both"
    with pytest.raises(AssertionError, match="label must be one of"):
        OpenSARShip(tmp_path, label=unknown)


def test_records_and_files_without_a_partner_are_rejected(tmp_path):
    more = RECORD.format(x=7, y=8, code=70, marinetraffic="NA")
    folder = write_scene(
        tmp_path,
        GRD,
        {"Cargo_x3_y4": 80, "Tanker_x5_y6": 80, "Tug_x9_y9": 52},
        more=more,
    )
    (folder / "Patch_Uint8/Visual_Tanker_x5_y6_vv.tif").unlink()
    (folder / "Patch_Uint8/notes.txt").write_text("x")
    (folder / "Patch_Uint8/Visual_Tug_x9_y9_vh.tif").rename(
        folder / "Patch_Uint8/Visual_Tug_x9_y10_vh.tif"
    )
    (folder / "Patch_Uint8/Visual_Tug_x9_y9_vv.tif").rename(
        folder / "Patch_Uint8/Visual_Tug_x9_y10_vv.tif"
    )
    source = OpenSARShip(tmp_path)
    expected = [("Cargo", ()), ("Tug", ("no-record",))]
    assert [(chip.category, chip.flags) for chip in source.chips] == expected
    assert [
        (Path(file).name, reason.split(",")[0]) for file, _, reason in source.rejected
    ] == [
        ("notes.txt", "the name is not <class>_x<column>_y<row>.tif"),
        ("Visual_Tanker_x5_y6_vh.tif", "the band suffixes must be VH"),
        ("Ship.xml", "no chip for the record of Center_x 9"),
        ("Ship.xml", "no chip for the record of Center_x 7"),
    ]


def test_a_single_polarization_scene_has_one_band(tmp_path):
    write_scene(tmp_path, SINGLE, SHIPS, end="</ShipList>")
    for product in OpenSARShip.products:
        source = OpenSARShip(tmp_path, product)
        assert source[0]["image"].shape == (1, 9, 9) and source.chips[0].bands == (
            "VV",
        )


def test_scene_name_is_read_from_a_file_if_the_folder_was_renamed(tmp_path):
    folder = write_scene(tmp_path, GRD, SHIPS).rename(tmp_path / "scene one")
    source = OpenSARShip(tmp_path)
    assert len(source) == 0 and "neither the folder nor a file" in source.rejected[0][2]
    (folder / f"{GRD}.xml").write_text("<x/>")
    assert OpenSARShip(tmp_path).chips[0].scene == GRD


@pytest.mark.parametrize(
    ("text", "error", "match"),
    [
        ("<ShipList><ship>", ValueError, "not XML"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><ShipList/>', ValueError, "document type"),
        (None, OSError, "No such file"),
    ],
)
def test_invalid_ship_list_is_rejected_and_chips_stay(tmp_path, text, error, match):
    path = write_scene(tmp_path, GRD, SHIPS) / "Ship.xml"
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(error, match=match):
        read_ship_records(path)
    source = OpenSARShip(tmp_path)
    assert [chip.flags for chip in source.chips] == [
        ("no-record",)
    ] * 2 and match in source.rejected[0][2]


def test_pixels_of_another_product_are_refused(tmp_path):
    folder = write_scene(tmp_path, GRD, SHIPS)
    noise = np.random.default_rng(0).integers(0, 255, (3, 9, 9), dtype=np.uint8)
    write_tiff(folder / "Patch_Cal/Cargo_x3_y4.tif", noise)
    write_tiff(folder / "Patch_Uint8/Visual_Cargo_x3_y4_vh.tif", noise[:1, :8, :8])
    with pytest.raises(ValueError, match=mentions("3 bands of uint8", "2 of float32")):
        OpenSARShip(tmp_path, "cal")[0]
    with pytest.raises(ValueError, match="differ in size"):
        OpenSARShip(tmp_path)[0]


def test_missing_dataset_and_wrong_product(tmp_path):
    with pytest.raises(DatasetNotFoundError, match="Dataset not found"):
        OpenSARShip(tmp_path, "cal")
    unknown: Any = "jpeg"
    with pytest.raises(AssertionError, match=mentions("product")):
        OpenSARShip(tmp_path, unknown)


def test_sample_is_that_of_torchgeo(tmp_path):
    write_scene(tmp_path, GRD, SHIPS)
    source = OpenSARShip(str(tmp_path), "cal", transforms=nn.Identity())
    sample = source[1]
    titles = [
        axes.get_title()
        for axes in source.plot(sample | {"prediction": torch.tensor(0)}).axes
    ]
    assert titles == ["Label: Other Type\nPrediction: Cargo"] * 2
    plt.close("all")
    assert source.classes == ["Cargo", "Other Type"] and len(source) == 2
    assert (
        sample["image"].shape == (2, 10, 10) and sample["image"].dtype == torch.float32
    )
    assert sample["label"].dtype == torch.int64 and int(sample["label"]) == 1


@pytest.mark.realdata
@pytest.mark.parametrize("product", ["uint8", "cal", "patch"])
def test_the_real_scenes_agree_with_the_list_beside_them(shared, product):
    root = shared("opensarship")
    source = OpenSARShip(root, product)
    assert len(source) == 187 and source.rejected == []
    assert Counter(flag for chip in source.chips for flag in chip.flags) == {
        "label-conflict": 9
    }
    table = pd.read_csv(root / "chips.csv", keep_default_na=False).sort_values(
        ["scene", "file"]
    )
    if product == "cal":
        names = [(chip.scene, chip.paths[0].name) for chip in source.chips]
        assert names == list(zip(table["scene"], table["file"], strict=True))
        assert [chip.incidence_deg for chip in source.chips] == table[
            "incidence_deg"
        ].tolist()
        assert [len(chip.bands) for chip in source.chips] == table["bands"].tolist()
        types = (
            table["elaborated_type"]
            .replace({"Law Enforce": "Law Enforcement"})
            .str.partition(" - ")[0]
        )
        unknown = types.isin(["NA", "Unspecified", "Reserved"])
        assert [chip.marinetraffic_type or "" for chip in source.chips] == types.where(
            ~unknown, ""
        ).tolist()
    assert all(
        read_opensarship_pixels(chip, product).ndim == 3 for chip in source.chips
    )


class TestOpenSARShip:
    """The tests that TorchGeo has for each of its data sets."""

    @pytest.fixture(params=["uint8", "cal", "patch"])
    def dataset(self, tmp_path, request):
        write_scene(tmp_path, GRD, SHIPS)
        return OpenSARShip(tmp_path, request.param, transforms=nn.Identity())

    def test_getitem(self, dataset):
        x = dataset[0]
        assert isinstance(x, dict)
        assert isinstance(x["image"], torch.Tensor)
        assert x["image"].shape == (2, 9, 9)
        assert isinstance(x["label"], torch.Tensor)

    def test_len(self, dataset):
        assert len(dataset) == 2

    def test_add(self, dataset):
        ds = dataset + dataset
        assert isinstance(ds, ConcatDataset)
        assert len(ds) == 4

    def test_not_downloaded(self, tmp_path):
        with pytest.raises(DatasetNotFoundError, match="Dataset not found"):
            OpenSARShip(tmp_path)

    def test_plot(self, dataset):
        x = dataset[0].copy()
        dataset.plot(x, suptitle="Test")
        plt.close()
        dataset.plot(x, show_titles=False)
        plt.close()
        x["prediction"] = x["label"].clone()
        dataset.plot(x)
        plt.close()
