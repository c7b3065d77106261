"""OpenSARShip: three products of a scene, and records with and without a chip."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rasterio

from rsft.data.datasets.opensarship import OpenSARShip, OpenSARShipProduct, read_opensarship_pixels, read_ship_records
from rsft.errors import DataError, RequestError
from tests.helpers.opensarship_data import GRD, RECORD, SINGLE, SLC, write_scene, write_tiff

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")

SHIPS = {"Cargo_x3_y4": 70, "Other Type_x5_y6": 0}


def bands_of(path: Path) -> np.ndarray:
    with rasterio.open(path) as file:
        return np.asarray(file.read())


@pytest.mark.parametrize("scene", [GRD, SLC])
def test_each_product_has_its_pixels(tmp_path: Path, scene: str) -> None:
    folder = write_scene(tmp_path, scene, SHIPS)
    patch, cal = bands_of(folder / "Patch/Cargo_x3_y4.tif"), bands_of(folder / "Patch_Cal/Cargo_x3_y4.tif")
    eye = [bands_of(folder / f"Patch_Uint8/Visual_Cargo_x3_y4_{band}.tif")[0] for band in ("vh", "vv")]
    amplitude = np.hypot(patch[::2], patch[1::2]) if scene == SLC else patch
    expected_pixels: dict[OpenSARShipProduct, np.ndarray] = {"patch": amplitude, "cal": cal, "uint8": np.stack(eye)}
    for product, expected in expected_pixels.items():
        source = OpenSARShip(tmp_path, product)
        pixels = read_opensarship_pixels(source.chips[0], product)
        np.testing.assert_array_equal(pixels.transpose(2, 0, 1), expected)
        assert pixels.dtype == (np.uint8 if product == "uint8" else np.float32)
        assert source.chips[0].bands == ("VH", "VV") and source.rejected == []


def test_a_chip_is_joined_to_its_record(tmp_path: Path) -> None:
    write_scene(tmp_path / "deep/down", GRD, SHIPS)
    chip = OpenSARShip(tmp_path).chips[0]
    assert (chip.scene, chip.category, chip.sensor, chip.spacing_m) == (GRD, "Cargo", "S1A IW GRDH", 10)
    assert (chip.mmsi, chip.incidence_deg, chip.longitude, chip.latitude, chip.length_m) == (
        "477207300",
        34.5,
        114.5977,
        None,
        None,
    )


def test_records_and_files_without_a_partner_are_rejected(tmp_path: Path) -> None:
    more = RECORD.format(x=7, y=8, code=70)
    folder = write_scene(tmp_path, GRD, {"Cargo_x3_y4": 80, "Tanker_x5_y6": 80, "Tug_x9_y9": 52}, more=more)
    (folder / "Patch_Uint8/Visual_Tanker_x5_y6_vv.tif").unlink()
    (folder / "Patch_Uint8/notes.txt").write_text("x")
    (folder / "Patch_Uint8/Visual_Tug_x9_y9_vh.tif").rename(folder / "Patch_Uint8/Visual_Tug_x9_y10_vh.tif")
    (folder / "Patch_Uint8/Visual_Tug_x9_y9_vv.tif").rename(folder / "Patch_Uint8/Visual_Tug_x9_y10_vv.tif")
    source = OpenSARShip(tmp_path)
    assert [(chip.category, chip.flags) for chip in source.chips] == [
        ("Cargo", ("class-code",)),
        ("Tug", ("no-record",)),
    ]
    assert [(Path(file).name, reason.split(",")[0]) for file, _, reason in source.rejected] == [
        ("notes.txt", "the name is not <class>_x<column>_y<row>.tif"),
        ("Visual_Tanker_x5_y6_vh.tif", "the band suffixes must be VH"),
        ("Ship.xml", "no chip for the record of Center_x 9"),
        ("Ship.xml", "no chip for the record of Center_x 7"),
    ]


def test_a_single_polarization_scene_has_one_band(tmp_path: Path) -> None:
    write_scene(tmp_path, SINGLE, SHIPS, end="</ShipList>")
    for product in ("uint8", "cal", "patch"):
        source = OpenSARShip(tmp_path, product)  # type: ignore[arg-type]
        assert source[0]["image"].shape == (1, 9, 9) and source.chips[0].bands == ("VV",)


def test_scene_name_is_read_from_a_file_if_the_folder_was_renamed(tmp_path: Path) -> None:
    folder = write_scene(tmp_path, GRD, SHIPS).rename(tmp_path / "scene one")
    source = OpenSARShip(tmp_path)
    assert len(source) == 0 and "neither the folder nor a file" in source.rejected[0][2]
    (folder / f"{GRD}.xml").write_text("<x/>")
    assert OpenSARShip(tmp_path).chips[0].scene == GRD


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("<ShipList><ship>", "not XML"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><ShipList/>', "document type"),
        (None, "cannot be read"),
    ],
)
def test_invalid_ship_list_is_rejected_and_chips_stay(tmp_path: Path, text: str | None, match: str) -> None:
    path = write_scene(tmp_path, GRD, SHIPS) / "Ship.xml"
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(DataError, match=match):
        read_ship_records(path)
    source = OpenSARShip(tmp_path)
    assert [chip.flags for chip in source.chips] == [("no-record",)] * 2 and match in source.rejected[0][2]


def test_pixels_of_another_product_are_refused(tmp_path: Path) -> None:
    folder = write_scene(tmp_path, GRD, SHIPS)
    noise = np.random.default_rng(0).integers(0, 255, (3, 9, 9), dtype=np.uint8)
    write_tiff(folder / "Patch_Cal/Cargo_x3_y4.tif", noise)
    write_tiff(folder / "Patch_Uint8/Visual_Cargo_x3_y4_vh.tif", noise[:1, :8, :8])
    with pytest.raises(DataError, match="3 bands of uint8, but 2 of float32"):
        read_opensarship_pixels(OpenSARShip(tmp_path, "cal").chips[0], "cal")
    with pytest.raises(DataError, match="differ in size"):
        read_opensarship_pixels(OpenSARShip(tmp_path).chips[0], "uint8")
    with pytest.raises(RequestError, match="no OpenSARShip scene with chips of product cal"):
        OpenSARShip(tmp_path / "absent", "cal")


def test_samples_can_be_plotted(tmp_path: Path) -> None:
    write_scene(tmp_path, GRD, SHIPS)
    source = OpenSARShip(tmp_path, "cal")
    figure = source.plot(source[1])
    assert len(figure.axes) == 2 and figure.get_suptitle() == "Other Type"


@pytest.mark.realdata
@pytest.mark.parametrize("product", ["uint8", "cal", "patch"])
def test_the_real_scenes_agree_with_the_list_beside_them(
    shared: Callable[[str], Path], product: OpenSARShipProduct
) -> None:
    root = shared("opensarship")
    source = OpenSARShip(root, product)
    assert len(source) == 187 and source.rejected == [] and all(chip.flags == () for chip in source.chips)
    table = pd.read_csv(root / "chips.csv").sort_values(["scene", "file"])
    if product == "cal":
        assert [(chip.scene, chip.paths[0].name) for chip in source.chips] == list(
            zip(table["scene"], table["file"], strict=True)
        )
        assert [chip.incidence_deg for chip in source.chips] == table["incidence_deg"].tolist()
        assert [len(chip.bands) for chip in source.chips] == table["bands"].tolist()
    assert all(read_opensarship_pixels(chip, product).ndim == 3 for chip in source.chips)
