"""Chip stores of OpenSARShip."""

import numpy as np
import pandas as pd
import pytest
import rasterio

from rsft.data.chips.manifest import SPLITS
from rsft.data.chips.store import ChipStore
from rsft.errors import DataError, RequestError
from rsft.plugins.opensarship.opensarship import OpenSARShip
from rsft.plugins.opensarship.prepare import PRODUCT_UNITS, prepare_opensarship
from rsft.plugins.opensarship.ship_files import read_opensarship_pixels
from tests.helpers.messages import mentions
from tests.plugins.opensarship.data import (
    GRD,
    SINGLE,
    SLC,
    write_scene,
    write_tiff,
)

pytestmark = pytest.mark.filterwarnings(
    "ignore::rasterio.errors.NotGeoreferencedWarning"
)

SHIPS = {"Cargo_x3_y4": 70, "Tanker_x1_y2": 80, "Law Enforcement_x5_y6": 55}


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    root = tmp_path_factory.mktemp("scenes")
    write_scene(root, SINGLE, SHIPS)
    for number, scene in enumerate((GRD, SLC, GRD.replace("2015", "2016"))):
        write_scene(root, scene, SHIPS, seed=number)
    return root


@pytest.mark.parametrize("product", ["uint8", "cal", "patch"])
def test_chips_have_pixels_bands_and_metadata(scenes, tmp_path, product):
    store = prepare_opensarship(
        scenes, tmp_path / "out", product=product, val=0.3, test=0.3
    )
    assert store.bands == ("VH", "VV") and store.units == (PRODUCT_UNITS[product],)
    assert store.skipped == {"VV, but most chips have VH,VV": 3} and store.rejected == 0
    assert store.classes == ("Cargo", "Tanker", "Other") and len(store.table) == 9
    chip = OpenSARShip(scenes, product).chips[0]
    row = store.table[
        store.table["name"].str.startswith(GRD) & (store.table["class"] == "Cargo")
    ].iloc[0]
    with rasterio.open(store.root / row["path"]) as file:
        np.testing.assert_array_equal(
            file.read().transpose(1, 2, 0), read_opensarship_pixels(chip, product)
        )
    names = ["sensor", "spacing_m", "mmsi", "incidence_deg", "polarisation"]
    assert row[names].tolist() == ["S1A IW GRDH", 10.0, "477207300", 34.5, "VH,VV"]


@pytest.mark.slow
def test_a_scene_is_in_one_split(scenes, tmp_path):
    table = prepare_opensarship(
        scenes, tmp_path / "out", classes="typed", val=0.3, test=0.3
    ).table
    assert table.groupby(table["name"].str.split("__").str[0])[
        "split"
    ].nunique().tolist() == [1, 1, 1]
    assert sorted(set(table["split"])) == ["test", "train", "val"]
    assert sorted(set(table["class"])) == ["Cargo", "Law Enforcement", "Tanker"]


@pytest.mark.slow
def test_the_same_scenes_give_the_same_manifest(scenes, tmp_path):
    stores = [prepare_opensarship(scenes, tmp_path / name) for name in ("a", "b")]
    pd.testing.assert_frame_equal(stores[0].table, stores[1].table)


TYPED = {
    "Cargo_x3_y4": "Bulk Carrier",
    "Tanker_x1_y2": "LPG Tanker",
    "Other Type_x5_y6": "Container Ship",
}


@pytest.mark.parametrize(
    ("classes", "label", "expected"),
    [
        ("3", "marinetraffic", {"Cargo": 2, "Tanker": 1, "Other": 1}),
        ("3", "ais", {"Cargo": 1, "Tanker": 1, "Other": 2}),
        (
            "merchant",
            "marinetraffic",
            {"Bulk Carrier": 1, "Container Ship": 1, "Tanker": 1},
        ),
        (
            "typed",
            "marinetraffic",
            {"Bulk Carrier": 1, "Container Ship": 1, "LPG Tanker": 1, "Tug": 1},
        ),
        ("typed", "ais", {"Cargo": 1, "Tanker": 1, "Other Type": 1, "Tug": 1}),
    ],
)
def test_the_label_is_that_of_marinetraffic_or_ais(
    rsft, tmp_path, classes, label, expected
):
    ships = {
        "Cargo_x3_y4": 70,
        "Tanker_x1_y2": 80,
        "Other Type_x5_y6": 99,
        "Tug_x7_y8": 52,
    }
    write_scene(tmp_path / "src", GRD, ships, types=TYPED)
    words = ("--classes", classes, "--label", label, "--val", "0", "--test", "0")
    code, printed = rsft("prepare", "opensarship", "src", "--root", "out", *words)
    assert code == 0
    store = ChipStore.open(tmp_path / "out")
    assert store.table["class"].value_counts().to_dict() == expected
    assert (
        f"labels: {'AIS' if label == 'ais' else 'MarineTraffic'} for " in printed
        and "3 of " in printed
    )
    assert "contradiction: 1  Other Type by AIS, Cargo by MarineTraffic" in printed
    row = store.table[store.table["ais_type"] == "Other Type"].iloc[0]
    assert (row["flags"], row["marinetraffic_type"], row["ais_beam_m"]) == (
        "label-conflict",
        "Container Ship",
        32,
    )
    assert "label-conflict" in (store.root / "README.md").read_text()
    skipped = (
        {"no Bulk Carrier, Container Ship, Tanker": 1} if classes == "merchant" else {}
    )
    assert store.skipped == skipped and np.isnan(row["ais_length_m"])


def test_bad_requests_and_empty_scenes(scenes, tmp_path):
    for arguments in (
        {"val": 0.5, "test": 0.5},
        {"val": -0.1},
        {"label": "ais", "classes": "merchant"},
    ):
        with pytest.raises(RequestError):
            prepare_opensarship(scenes, tmp_path / "out", **arguments)
    with pytest.raises(
        RequestError, match="an OpenSARShip scene with chips of product cal"
    ) as caught:
        prepare_opensarship(tmp_path, tmp_path / "out", product="cal")
    assert (
        caught.value.location == str(tmp_path)
        and "Patch_Cal/" in caught.value.hint
        and "Ship.xml" in caught.value.hint
    )
    (tmp_path / GRD / "Patch_Uint8").mkdir(parents=True)
    (tmp_path / GRD / "Patch_Uint8/notes.txt").write_text("no chip")
    with pytest.raises(DataError, match=mentions("no chip")):
        prepare_opensarship(tmp_path, tmp_path / "out")


def test_damaged_chips_are_rejected_with_their_reason(tmp_path):
    folder = write_scene(tmp_path / "src", GRD, SHIPS | {"Tug_x7_y8": 52}) / "Patch_Cal"
    (folder / "Cargo_x3_y4.tif").write_bytes(
        (folder / "Cargo_x3_y4.tif").read_bytes()[:300]
    )
    write_tiff(folder / "Tanker_x1_y2.tif", np.full((2, 9, 9), np.nan, np.float32))
    write_tiff(folder / "Tug_x7_y8.tif", np.zeros((2, 9, 9), np.float32))
    store = prepare_opensarship(
        tmp_path / "src",
        tmp_path / "out",
        product="cal",
        classes="typed",
        val=0,
        test=0,
    )
    assert store.table["class"].tolist() == ["Law Enforcement"]
    assert [
        line.split(",", 2)[2]
        for line in (store.root / "rejected.csv").read_text().splitlines()[1:]
    ] == [
        "the file is truncated or damaged",
        "162 of 162 values are NaN or infinite",
        "every pixel is 0.0",
    ]


@pytest.mark.slow
def test_bands_that_all_scenes_have(scenes, tmp_path):
    for product in OpenSARShip.products:
        store = prepare_opensarship(
            scenes,
            tmp_path / product,
            product=product,
            bands=("VV",),
            val=0.3,
            test=0.3,
        )
        assert (
            store.bands == ("VV",)
            and len(store.table) == 12
            and not store.skipped
            and not store.rejected
        )
        assert (
            set(store.table["polarisation"]) == {"VV"}
            and "--bands VV" in (store.root / "README.md").read_text()
        )
    chip = next(
        chip for chip in OpenSARShip(scenes, "cal").chips if chip.bands == ("VH", "VV")
    )
    row = next(
        row
        for row in store.table.itertuples()
        if row.name.startswith(f"{chip.scene}__{chip.paths[0].stem}")
    )
    with rasterio.open(tmp_path / "cal" / row.path) as file:
        np.testing.assert_array_equal(
            file.read()[0], read_opensarship_pixels(chip, "cal")[:, :, 1]
        )


def test_bands_that_some_scenes_lack(scenes, tmp_path):
    store = prepare_opensarship(
        scenes, tmp_path / "out", bands=("VV", "VH"), val=0.3, test=0.3
    )
    assert (
        store.bands == ("VV", "VH")
        and store.skipped == {"VV, without VV,VH": 3}
        and len(store.table) == 9
    )
    with pytest.raises(RequestError, match="no chip has HH") as caught:
        prepare_opensarship(scenes, tmp_path / "no", bands=("HH",))
    assert caught.value.hint == "choose --bands from VH, VV"
    with pytest.raises(RequestError, match=mentions("XX", "band")):
        prepare_opensarship(scenes, tmp_path / "no", bands=("XX",))


@pytest.mark.slow
@pytest.mark.realdata
def test_the_real_scenes_build(shared, tmp_path):
    store = prepare_opensarship(
        shared("opensarship"), tmp_path / "out", product="cal", label="ais"
    )
    assert store.table["class"].value_counts().to_dict() == {
        "Cargo": 83,
        "Other": 26,
        "Tanker": 22,
    }
    assert (
        store.skipped == {"VV, but most chips have VH,VV": 56} and store.rejected == 0
    )
    assert [store.class_counts(split).tolist() for split in SPLITS] == [
        [58, 12, 23],
        [10, 1, 2],
        [15, 9, 1],
    ]
    assert "Classes that a split lacks" not in (store.root / "README.md").read_text()


@pytest.mark.slow
@pytest.mark.realdata
def test_marinetraffic_corrects_the_rare_class(shared, tmp_path, rsft):
    words = ("--product", "cal", "--bands", "VV")
    code, printed = rsft(
        "prepare",
        "opensarship",
        shared("opensarship"),
        "--root",
        tmp_path / "out",
        *words,
    )
    assert code == 0 and "MarineTraffic for 167 of 187 chips" in printed
    assert "contradiction: 5  Other Type by AIS, Cargo by MarineTraffic" in printed
    store = ChipStore.open(tmp_path / "out")
    assert store.table["class"].value_counts().to_dict() == {
        "Cargo": 114,
        "Tanker": 50,
        "Other": 23,
    }
    assert store.table["flags"].str.contains("label-conflict").sum() == 9


@pytest.mark.slow
@pytest.mark.realdata
def test_classes_that_a_split_lacks_are_reported(shared, tmp_path):
    store = prepare_opensarship(
        shared("opensarship"), tmp_path / "out", classes="typed", label="ais"
    )
    missing = (
        (store.root / "README.md").read_text().split("Classes that a split lacks:")[1]
    )
    assert "- test: Law Enforcement, Search and Rescue vessel, Tug\n" in missing
    assert (
        "- val: Law Enforcement, Other Type, Passenger, Search and Rescue vessel, Tug\n"
        in missing
    )
