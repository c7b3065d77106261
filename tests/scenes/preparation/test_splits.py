"""Objects of one vessel or scene stay in one split."""

from types import SimpleNamespace

import geopandas
import pytest

from rsft.data.imagery.scene_uri import SceneUri
from rsft.errors import RequestError
from rsft.scenes.preparation.labels import LabeledObject
from rsft.scenes.preparation.splits import assign_splits, default_split
from tests.scenes.preparation.conftest import prepared


# class, row, col, length, width
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


def label(scene, name, vessel="", split=""):
    place = SimpleNamespace(name=scene, path=SceneUri.parse(f"all/{scene}.tif"))
    location = SimpleNamespace(name=name)
    return LabeledObject(place, location, "cargo", vessel, split)


@pytest.mark.parametrize(
    ("by", "groups"),
    [("scene", [{0, 1}, {2, 3}]), ("vessel", [{0, 2}, {1}, {3}]), ("object", [{0, 2}])],
)
def test_a_group_is_in_one_split(by, groups):
    objects = [
        label("s", "a", "1"),
        label("s", "b", "2"),
        label("t", "a", "1"),
        label("t", "c"),  # without a vessel it goes with its scene
    ]
    splits = assign_splits(objects, by, {"train": 0.5, "val": 0.5, "test": 0.0}, 0)
    assert set(splits) == {"train", "val"}
    for group in groups:
        assert len({splits[number] for number in group}) == 1
    assert splits == assign_splits(objects, by, {"train": 0.5, "val": 0.5}, 0)


@pytest.mark.parametrize(
    ("objects", "by", "words"),
    [
        ([label("s", "a"), label("t", "b")], "vessel", "no field mmsi"),
        ([label("s", "a"), label("s", "b")], "scene", "scene: 1 cannot be divided"),
        ([label("s", "a")], "given", "a label has no split"),
        ([label("s", "a", split="vale")], "given", "is 'vale'"),
    ],
)
def test_what_cannot_be_divided(objects, by, words):
    with pytest.raises(RequestError, match=words):
        assign_splits(objects, by, {"train": 0.5, "val": 0.5}, 0)


@pytest.mark.parametrize(
    ("scenes", "test", "by"),
    [("s", 0.0, "object"), ("st", 0.0, "scene"), ("st", 0.2, "object")],
)
def test_objects_are_divided_where_scenes_are_too_few(scenes, test, by):
    objects = [label(scene, "a") for scene in scenes]
    assert default_split(objects, {"train": 0.5, "val": 0.5, "test": test}) == by


def test_a_split_is_given_by_a_field_or_a_folder():
    objects = [label("s", "a", split="test"), label("VAL/s", "b")]
    assert assign_splits(objects, "given", {}, 0) == ["test", "val"]
