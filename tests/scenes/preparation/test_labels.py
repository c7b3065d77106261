"""Labels of scenes: their classes, and what cannot be used is counted."""

import os

import geopandas
import numpy as np
import pandas as pd
import pytest
import shapely
import shapely.affinity

from rsft.data.chips.store import read_dataset
from rsft.errors import RequestError
from rsft.scenes.preparation.prepare import show_notes
from tests.helpers.files import written
from tests.helpers.messages import mentions
from tests.helpers.scene_stores import prepare
from tests.helpers.scenes import write_geotiff
from tests.scenes.preparation.conftest import prepared


# class, row, col, length, width
def test_types_become_classes_in_the_order_of_their_file(scenes, tmp_path):
    types = written(
        tmp_path / "types.yaml", "merchant: [Tanker, cargo]\nother: passenger\n"
    )
    store = prepared(scenes, tmp_path / "store", types=types)
    assert store.classes == ("merchant",) and len(store.table) == 4
    assert store.skipped == {"type fishing, which the file of types does not have": 2}


@pytest.mark.parametrize("rare", ["merge", "drop"])
def test_rare_classes_become_one_or_are_left_out(scenes, tmp_path, rare):
    labels = geopandas.read_file(scenes[1]).drop(columns="mmsi")
    cargo = pd.concat([labels] * 2, ignore_index=True).assign(type="Cargo")
    cargo["geometry"] = [
        shapely.affinity.translate(shape, number)
        for number, shape in enumerate(cargo.geometry)
    ]
    cargo.loc[0, "type"] = "Tug"
    cargo.to_file(tmp_path / "some.gpkg")
    source = scenes[0], tmp_path / "some.gpkg"
    store = prepared(source, tmp_path / "store", rare=rare)
    others = [] if rare == "drop" else ["other"]
    assert store.classes == ("Cargo", *others)
    counts = store.table["class"].value_counts()
    assert counts["Cargo"] == 10 and len(store.table) == 10 + len(others)
    assert store.skipped.get("object of a rare class", 0) == (rare == "drop")


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
        "coordinate system of their file (EPSG:32633): they lie at row",
    )
    with pytest.raises(
        RequestError,
        match=mentions(*parts, "positions outside of s1.tif"),
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
    shifts = np.arange(len(many)) // len(labels) * 10  # a pixel each: other objects
    many["geometry"] = [
        shapely.affinity.translate(shape, shift)
        for shape, shift in zip(many.geometry, shifts, strict=True)
    ]
    many.loc[3, "type"] = "Crago"
    many.to_file(tmp_path / "many.gpkg")
    store = prepared((scenes[0], tmp_path / "many.gpkg"), tmp_path / "store")
    assert "warning: Crago (1 of 72 chips) may be a typo of Cargo (71)" in list(
        show_notes(store, {})
    )


def test_labels_that_lie_in_several_scenes_give_a_chip_in_each(scenes, tmp_path):
    folder, labels = scenes
    os.link(folder / "s0.tif", folder / "later.tif")
    points = geopandas.read_file(labels)
    points["geometry"] = points.centroid
    points.to_file(tmp_path / "points.gpkg")
    store = prepare(folder, tmp_path / "store", at=tmp_path / "points.gpkg", jobs=1)
    notes = read_dataset(store.root)["notes"]
    assert len(store.table) == 9
    assert any(
        note.startswith("chips of 64 x 64 pixels, because labels are points:")
        for note in notes
    )
