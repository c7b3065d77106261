"""The locations of a query: a grid, positions, detected objects, and locators."""

import numpy as np
import pytest

from rsft.scenes import locate as locate_module
from rsft.scenes.locate import locate
from rsft.scenes.locations import Location, SceneLocations
from rsft.scenes.query import CfarOptions, Query
from rsft.scenes.raster import open_scene
from tests.helpers.scenes import write_geotiff


@pytest.fixture
def scene(tmp_path):
    return open_scene(write_geotiff(tmp_path / "s.tif", np.zeros((40, 60), np.uint8)))


def never():
    raise AssertionError("a detection takes minutes")


def boxes(locations):
    return [(location.row, location.col) for location in locations.locations]


def test_a_grid_of_pixels_of_the_chip(scene):
    tiles = locate(scene, Query(grid=10), never, scale=(2.0, 3.0))
    assert boxes(tiles) == [(10, 15), (10, 45), (30, 15), (30, 45)]
    overlapping = locate(scene, Query(grid=20, stride=10), never)
    assert boxes(overlapping)[:3] == [(10, 10), (10, 20), (10, 30)]


def test_positions_of_a_file(scene, tmp_path):
    (tmp_path / "p.csv").write_text("y,x,kind\n5,7,tug\n")
    query = Query(at=tmp_path / "p.csv", columns="row=y,col=x,class=kind")
    locations = locate(scene, query, never)
    assert boxes(locations) == [(5, 7)]
    assert locations.attributes["class"].tolist() == ["tug"]


def test_detected_objects(scene):
    objects = SceneLocations([Location(1, 2, None, "a")])
    query = Query(detect=CfarOptions())
    assert locate(scene, query, lambda: objects) is objects


def test_a_locator_gets_the_objects_of_the_others(scene, monkeypatch, tmp_path):
    calls = []

    class Toy:
        """Leaves out the objects, and says what it was given."""

        def __init__(self, name="a"):
            self.name = name

        def locate(self, scene, source, find, min_confidence, progress):
            calls.append((source.name, min_confidence))
            return SceneLocations(find().locations * 2)

    monkeypatch.setattr(locate_module, "LOCATORS", {"toy": Toy, "other": Toy})
    sources = {"toy": tmp_path / "t", "other": tmp_path / "o"}
    query = Query(detect=CfarOptions(), sources=sources)
    objects = SceneLocations([Location(1, 2, None, "a")])
    found = locate(scene, query, lambda: objects, min_confidence=0.5)
    assert len(found.locations) == 4
    assert calls == [("o", 0.5), ("t", 0.5)]  # the last one asks first
