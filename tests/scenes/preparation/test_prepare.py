"""Training chips from labeled scenes: the same pixels as in a prediction, and nothing
left out without a word."""

import json
import os
from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import pytest
import shapely

from rsft.data.chips import builder
from rsft.data.chips.store import ChipStore, read_dataset
from rsft.data.imagery.reader import read_chip
from rsft.data.prepare.dota import prepare_dota
from rsft.errors import RequestError
from rsft.inference.options import PredictionRequest
from rsft.inference.predict.scene_chips import plan_scenes
from rsft.scenes.options import ChipOptions, ChipSize, Declaration
from rsft.scenes.preparation.prepare import show_notes
from rsft.scenes.query import Query
from tests.helpers.files import written
from tests.helpers.killing import kill_at_call, run_until_killed
from tests.helpers.messages import mentions
from tests.helpers.scene_stores import prepare
from tests.helpers.scenes import UTM, simulate_sea, toy_contract, write_geotiff

# class, row, col, length, width
SHIPS = [
    ("cargo", 40, 50, 30, 10),
    ("tanker", 120, 150, 40, 12),
    ("fishing", 90, 60, 6, 4),
]


@pytest.fixture
def scenes(tmp_path):
    """Two scenes in sigma0 with three ships each, and a layer with their outlines on
    the map."""
    folder = tmp_path / "scenes"
    rows = []
    folder.mkdir()
    for number in range(2):
        transform = UTM * UTM.translation(300 * number, 0)
        pixels = simulate_sea(200, 220, seed=number)
        for name, row, col, length, width in SHIPS:
            top = row - width // 2
            left = col - length // 2
            pixels[top : top + width, left : left + length] = 3
            corners = [
                transform * (left + x, top + y)
                for x, y in ((0, 0), (length, 0), (length, width), (0, width))
            ]
            rows.append(
                {
                    "type": name,
                    "mmsi": f"{number}{row:08d}",
                    "geometry": shapely.Polygon(corners),
                }
            )
        options = {
            "crs": "EPSG:32633",
            "transform": transform,
            "names": ("VV",),
            "units": ("sigma0",),
        }
        write_geotiff(folder / f"s{number}.tif", pixels**2, **options)
    labels = tmp_path / "ships.gpkg"
    geopandas.GeoDataFrame(rows, crs="EPSG:32633").to_file(labels)
    return folder, labels


def prepared(scenes, root, **options):
    folder, labels = scenes
    return prepare(folder, root, at=labels, **({"jobs": 1, "size": "32"} | options))


def chips_of(store):
    return {
        name: read_chip(store.root / path)
        for name, path in store.table[["name", "path"]].to_numpy()
    }


def test_the_manifest_says_what_a_chip_shows_where_and_when(scenes, tmp_path):
    store = prepared(scenes, tmp_path / "store", val=0.5)
    table = store.table
    assert store.classes == ("cargo", "fishing", "tanker") and store.bands == ("VV",)
    assert dict(table.groupby("split")["group_key"].unique().map(len)) == {
        "train": 1,
        "val": 1,
    }
    assert set(table["unit"]) == {"sigma0"} and set(table["flags"]) == {""}
    assert table["spacing_m"].to_numpy() == pytest.approx(10, abs=0.02)
    row = table[(table["group_key"] == "s0") & (table["class"] == "tanker")].iloc[0]
    assert (row["source"], row["source_row"], row["mmsi"]) == ("s0.tif", 2, "000000120")
    assert (row["row"], row["col"]) == pytest.approx((120, 150), abs=0.01)
    assert (row["length_m"], row["width_m"]) == pytest.approx((400, 120), rel=0.002)
    assert np.reshape(row["box"], (4, 2)).min(axis=0) == pytest.approx(
        [-4, 10], abs=0.01
    )
    assert (row["lon"], row["lat"]) == pytest.approx(
        (15.0, 45.1), abs=0.1
    ) and np.isnan(row["heading_deg"])
    assert store.table["class"].map(store.classes.index).ge(0).all()
    assert read_dataset(store.root)["notes"] == ["class: the field type of ships.gpkg"]
    assert next(ChipStore.open(store.root).iter_pixels("train", "sigma0")).shape == (
        32,
        32,
        1,
    )


def test_chips_are_those_of_a_prediction_to_the_bit(scenes, tmp_path):
    for options in ({"size": "32"}, {"size": "box+2"}):
        store = prepared(scenes, tmp_path / f"store{options['size']}", **options)
        contract = toy_contract(
            units={"sigma0": toy_contract().units["uint8"]},
            bands=("VV",),
            planes=("VV",) * 3,
        )
        request = PredictionRequest(
            query=Query(at=scenes[1]),
            declaration=Declaration("sigma0"),
            chip_options=ChipOptions(size=ChipSize.parse(options["size"])),
        )
        plan = plan_scenes(sorted(scenes[0].glob("*.tif")), request, contract, None)
        predicted = [
            source.read(number)
            for source in plan.sources
            for number in range(len(source))
        ]
        stored = chips_of(store)
        assert len(predicted) == len(stored) == 6
        for chip in predicted:
            np.testing.assert_array_equal(chip.pixels, stored[chip.columns["chip"]])


def test_types_become_classes_in_the_order_of_their_file(scenes, tmp_path):
    types = written(
        tmp_path / "types.yaml", "merchant: [Tanker, cargo]\nother: passenger\n"
    )
    store = prepared(scenes, tmp_path / "store", types=types)
    assert store.classes == ("merchant",) and len(store.table) == 4
    assert store.skipped == {"type fishing, which the file of types does not have": 2}


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a: {b: c}\n", ["types of a", "cargo: [Cargo"]),
        ("a: [x]\nb: [X]\n", ["X is in two classes, a and b"]),
        ("a: [cargo]\na: [x]\n", ["types.yaml"]),
    ],
)
def test_a_wrong_file_of_types(scenes, tmp_path, text, parts):
    with pytest.raises(Exception, match=mentions(*parts)):
        prepared(
            scenes, tmp_path / "store", types=written(tmp_path / "types.yaml", text)
        )
    assert not (tmp_path / "store").exists()


def test_the_size_of_chips(scenes, tmp_path):
    sizes = {}
    for name, options in {
        "boxes": {"size": None},
        "meters": {"size": "480m"},
        "margin": {"size": "box+3"},
    }.items():
        store = prepared(scenes, tmp_path / name, **options)
        sizes[name] = {pixels.shape[:2] for pixels in chips_of(store).values()}
    assert sizes["boxes"] == {(64, 64)} and sizes["meters"] == {(48, 48)}
    assert sizes["margin"] == {(16, 36), (18, 46), (10, 12)}
    notes = read_dataset(tmp_path / "boxes")["notes"]
    assert notes[1] == "chips of 64 x 64 pixels, by the boxes: --size changes this"


def test_background_chips_show_no_object(scenes, tmp_path):
    store = prepared(scenes, tmp_path / "store", background=5, seed=3)
    assert store.classes[-1] == "background"
    backgrounds = {
        name: pixels for name, pixels in chips_of(store).items() if "background" in name
    }
    assert len(backgrounds) == 10 and all(
        pixels.shape == (32, 32, 1) for pixels in backgrounds.values()
    )
    assert all(pixels.max() < 9 for pixels in backgrounds.values())
    again = prepared(scenes, tmp_path / "again", background=5, seed=3)
    assert list(again.table["sha256"]) == list(store.table["sha256"])
    crowded = prepared(scenes, tmp_path / "crowded", background=40, size="64")
    assert any(
        "background chips" in note for note in read_dataset(crowded.root)["notes"]
    )


def test_labels_of_one_file_per_scene_and_without_a_scene(tmp_path):
    rng = np.random.default_rng(0)
    for folder in ("images/train", "images/val", "labels"):
        (tmp_path / folder).mkdir(parents=True)
    for split, name in (("train", "a"), ("train", "b"), ("val", "c")):
        write_geotiff(
            tmp_path / f"images/{split}/{name}.tif",
            rng.integers(0, 255, (60, 60), np.uint8),
        )
    written(
        tmp_path / "labels/a.txt",
        "10 10 20 10 20 20 10 20 ship 0\n44 50 64 50 64 58 44 58 plane 0\n",
    )
    written(
        tmp_path / "labels/c.txt",
        "5 5 9 5 9 9 5 9 ship 0\n70 70 80 70 80 80 70 80 ship 0\n1 1 1 1 1 1 1 1"
        " ship 0\n",
    )
    store = prepare(
        tmp_path / "images",
        tmp_path / "store",
        at=tmp_path / "labels",
        split="given",
        size="24",
    )
    assert store.table.groupby("split").size().to_dict() == {"train": 2, "val": 1}
    assert store.table.set_index("name")["flags"].to_dict() == {
        "a_000001": "",
        "a_000002": "edge",
        "c_000001": "edge",
    }
    assert store.skipped["label outside of all scenes"] == 1 and store.rejected == 1
    assert sum(store.skipped.values()) == 2  # and the scene without labels


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (
            {"at": None},
            ["no labels", "--at FILE or --ais FILE", "rsft predict"],
        ),
        ({"field": "kind"}, ["no field kind", "type, mmsi", "--field"]),
        ({"size": "large"}, ["'large' is no size", "640m", "box+8"]),
        ({"size": "99999"}, ["99,999 pixels", "8192"]),
        ({"split": "given"}, ["a label has no split", "train, val or test"]),
        (
            {"val": 0.4, "test": 0.4},
            ["2 scenes cannot be divided between train, val, test", "--split object"],
        ),
        ({"unit": "db"}, ["--unit db, but the file declares sigma0"]),
        ({"crs": "EPSG:4326", "layer": "x"}, ["no layer x"]),
    ],
)
def test_wrong_options_write_nothing(scenes, tmp_path, options, parts):
    folder, labels = scenes
    with pytest.raises(RequestError, match=mentions(*parts)):
        prepare(folder, tmp_path / "store", **({"at": labels, "jobs": 1} | options))
    assert not (tmp_path / "store").exists()


def test_scenes_that_cannot_be_used(scenes, tmp_path):
    folder, labels = scenes
    (tmp_path / "empty").mkdir()
    with pytest.raises(RequestError, match=mentions("no scenes", ".tif")):
        prepare(tmp_path / "empty", tmp_path / "store", at=labels)
    write_geotiff(folder / "plain.tif", simulate_sea(50, 50))
    with pytest.raises(
        RequestError,
        match=mentions(
            "float32 pixels without a unit", "plain.tif", "--unit", "sigma0"
        ),
    ):
        prepare(folder, tmp_path / "store", at=labels)
    (folder / "plain.tif").unlink()
    (folder / "more").mkdir()
    os.link(folder / "s0.tif", folder / "more/s0.tif")
    with pytest.raises(RequestError, match="2 scenes have the name s0"):
        prepare(folder, tmp_path / "store", at=labels)


def test_several_scenes_give_the_chips_of_their_folder(scenes, tmp_path):
    folder, labels = scenes
    # the first one twice
    names = [
        folder / "s0.tif",
        folder / "s1.tif",
        folder / "s0.tif",
    ]
    store = prepare(names, tmp_path / "several", at=labels, jobs=1, size="32")
    whole = chips_of(prepared(scenes, tmp_path / "whole"))
    chips = chips_of(store)
    assert chips.keys() == whole.keys() and all(
        (chips[name] == whole[name]).all() for name in whole
    )
    assert store.name == "objects in scenes, s0.tif, s1.tif, s0.tif"
    assert read_dataset(store.root)["command"].startswith(
        f"rsft prepare scenes {names[0]} {names[1]} {names[2]} "
    )


def test_labels_that_cannot_be_used(scenes, tmp_path):
    folder, labels = scenes
    layer = geopandas.read_file(labels)
    layer.set_crs(None, allow_override=True).to_file(tmp_path / "no_crs.gpkg")
    with pytest.raises(
        RequestError,
        match=mentions("no coordinate system", "no_crs.gpkg", "--crs pixel"),
    ):
        prepare(folder, tmp_path / "store", at=tmp_path / "no_crs.gpkg")
    store = prepared(
        (folder, tmp_path / "no_crs.gpkg"), tmp_path / "declared", crs="EPSG:32633"
    )
    assert len(store.table) == 6
    corner = layer.geometry.iloc[0].exterior.coords[0]
    layer.loc[:1, "geometry"] = [
        shapely.Polygon([corner] * 4),
        shapely.box(*corner, corner[0], corner[1] + 50),
    ]
    layer.to_file(tmp_path / "zero.gpkg")
    store = prepared(
        (folder, tmp_path / "zero.gpkg"), tmp_path / "zero", split="object"
    )
    assert len(store.table) == 4 and store.rejected == 2
    assert "the box has no area" in (store.root / "rejected.csv").read_text()
    layer.iloc[:2].to_file(tmp_path / "only_zero.gpkg")
    with pytest.raises(
        RequestError,
        match=mentions(
            "no label can be used", "the box has no area", "only_zero.gpkg:1"
        ),
    ):
        prepare(folder, tmp_path / "store", at=tmp_path / "only_zero.gpkg")
    (tmp_path / "two").mkdir()
    for name in ("s0.json", "s0.txt", "s1.txt"):
        written(tmp_path / "two" / name, "10 10 20 10 20 20 10 20 ship 0\n")
    with pytest.raises(
        RequestError,
        match=mentions("2 files for s0.tif: s0.json, s0.txt", "keep one of them"),
    ):
        prepare(folder, tmp_path / "store", at=tmp_path / "two")
    assert not (tmp_path / "store").exists()


def test_labels_elsewhere_are_counted(scenes, tmp_path):
    far = geopandas.read_file(scenes[1])
    far["geometry"] = far.translate(xoff=1e5)
    far.to_file(tmp_path / "far.gpkg")
    parts = (
        "no label can be used in 2 scenes",
        "6 x label outside of all",
        "the positions (EPSG:32633) lie at lon 16.",
    )
    with pytest.raises(
        RequestError,
        match=mentions(*parts, "s1.tif (geotransform, EPSG:32633) at lon 15."),
    ):
        prepare(scenes[0], tmp_path / "store", at=tmp_path / "far.gpkg")
    both = pd.concat([geopandas.read_file(scenes[1]), far.iloc[:2]])
    both.to_file(tmp_path / "both.gpkg")
    store = prepared((scenes[0], tmp_path / "both.gpkg"), tmp_path / "store")
    assert store.skipped == {"label outside of all scenes": 2} and len(store.table) == 6


def test_a_table_of_labels_without_rows(scenes, tmp_path):
    path = written(tmp_path / "empty.csv", "lat,lon,class\n")
    with pytest.raises(
        RequestError, match=mentions("the labels are empty", "no rows", "empty.csv")
    ):
        prepare(scenes[0], tmp_path / "store", at=path)


def test_a_class_whose_name_may_be_a_typing_error_is_named(scenes, tmp_path):
    labels = geopandas.read_file(scenes[1]).drop(columns="mmsi")
    many = pd.concat([labels] * 12, ignore_index=True).assign(type="Cargo")
    many.loc[3, "type"] = "Crago"
    many.to_file(tmp_path / "many.gpkg")
    store = prepared((scenes[0], tmp_path / "many.gpkg"), tmp_path / "store")
    assert "warning: Crago (1 of 72 chips) may be a typo of Cargo (71)" in list(
        show_notes(store, {})
    )


def test_labels_that_lie_in_several_scenes_are_counted(scenes, tmp_path):
    folder, labels = scenes
    os.link(folder / "s0.tif", folder / "later.tif")
    points = geopandas.read_file(labels)
    points["geometry"] = points.centroid
    points.to_file(tmp_path / "points.gpkg")
    store = prepare(folder, tmp_path / "store", at=tmp_path / "points.gpkg", jobs=1)
    notes = read_dataset(store.root)["notes"]
    assert len(store.table) == 9 and any(
        note.startswith("3 labels lie in several scenes") for note in notes
    )
    assert any(
        note.startswith("chips of 64 x 64 pixels, because labels are points:")
        for note in notes
    )


def test_vessels_stay_in_one_split(scenes, tmp_path):
    layer = geopandas.read_file(scenes[1])
    layer["MMSI"] = [f"21900000{number % 3}" for number in range(6)]
    layer.drop(columns="mmsi").to_file(tmp_path / "vessels.gpkg")
    store = prepared(
        (scenes[0], tmp_path / "vessels.gpkg"),
        tmp_path / "store",
        split="vessel",
        val=0.3,
    )
    assert store.table.groupby("mmsi")["split"].nunique().to_list() == [1, 1, 1]
    assert set(store.table["group_key"]) == set(store.table["mmsi"])


@pytest.mark.slow
def test_a_killed_build_continues_to_the_same_store(scenes, tmp_path):
    expected = prepared(scenes, tmp_path / "expected", background=8)

    def killed():
        kill_at_call(builder, "write_chip", call=12)
        prepared(scenes, tmp_path / "store", background=8)

    run_until_killed(killed)
    assert not (tmp_path / "store").exists()
    store = prepared(scenes, tmp_path / "store", background=8)
    pd.testing.assert_frame_equal(store.table, expected.table)
    text = json.loads((tmp_path / "store/dataset.json").read_text())
    assert text["classes"] == ["cargo", "fishing", "tanker", "background"]


@pytest.mark.realdata
def test_objects_of_dota_are_the_same_as_in_prepare_dota(tmp_path):
    folder = Path(os.environ.get("RSFT_SHARED", "../shared")) / "data/dota_samples"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    scenes = prepare(
        folder / "images",
        tmp_path / "scenes",
        at=folder / "labelTxt",
        size="box",
        min_size=4,
    )
    dota = prepare_dota(folder, tmp_path / "dota")

    def contents(store):
        rows = store.table[["group_key", "class", "split", "path"]].itertuples(
            index=False
        )
        return sorted(
            (scene, label, split, read_chip(store.root / path).tobytes())
            for scene, label, split, path in rows
        )

    assert contents(scenes) == contents(dota) and len(dota.table) == 593


def test_a_model_takes_the_scenes_of_its_chips_with_oblong_pixels(scenes, tmp_path):
    folder, labels = scenes
    for number in range(2):
        (folder / f"s{number}.tif").unlink()
        transform = UTM * UTM.scale(1, 2) if number else UTM * UTM.scale(1, 1.1)
        pixels = simulate_sea(200, 220, seed=number) ** 2
        options = {
            "crs": "EPSG:32633",
            "transform": transform,
            "names": ("VV",),
            "units": ("sigma0",),
        }
        write_geotiff(folder / f"s{number}.tif", pixels, **options)
    store = prepare(
        folder,
        tmp_path / "store",
        at=labels,
        size="32",
        split="object",
        jobs=1,
    )
    by_scene = store.table.groupby("source")["spacing_m"].first()
    assert by_scene["s0.tif"] == pytest.approx(10.5, abs=0.02) and np.isnan(
        by_scene["s1.tif"]
    )
    assert (
        "pixels are not square, so that no spacing is stored: s1.tif"
        in read_dataset(store.root)["notes"]
    )
