"""Scenes and chips with GeoKeys that are wrong, incomplete or rare are read, with a georeference only if it is one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rsft.data.imagery.reader import read_band_names, read_chip, read_tiff_tags
from rsft.inference.predict.scene_plan import _scene_notes
from rsft.inference.scenes.georeference import read_footprint
from rsft.inference.scenes.raster import PixelWindow, SceneReader, open_scene
from tests.helpers.geokeys import ODD_GEOKEYS, write_scene_with_geokeys
from tests.helpers.scenes import toy_contract

WITH_COORDINATES = {"user_defined_projection", "unknown_units", "unknown_vertical_system"}


@pytest.mark.parametrize("name", ODD_GEOKEYS)
def test_odd_geokeys(name: str, tmp_path: Path) -> None:
    path = write_scene_with_geokeys(tmp_path / "a.tif", ODD_GEOKEYS[name])
    scene = open_scene(path)
    reader = SceneReader(scene)
    assert reader.read(PixelWindow(0, 0, 48, 64)).pixels.shape == (48, 64, 1)
    reader.close()
    (note, *_) = _scene_notes(scene, None, toy_contract())
    if name in WITH_COORDINATES:
        assert scene.georeference is not None and note.startswith("georeference of a.tif: geotransform")
        lon, lat = scene.georeference.pixels_to_lonlat(24, 32)[0]
        assert abs(lon) <= 180 and abs(lat) <= 90
    else:
        assert scene.georeference is None and note == "a.tif has no georeference: coordinates are in pixels"
    assert (read_footprint(path) is not None) is (name in WITH_COORDINATES)


@pytest.mark.parametrize("name", ODD_GEOKEYS)
def test_chips_with_odd_geokeys(name: str, tmp_path: Path) -> None:
    path = write_scene_with_geokeys(tmp_path / "a.tif", ODD_GEOKEYS[name])
    assert np.ptp(read_chip(path)) > 0
    assert read_tiff_tags(path, read_band_names) is None
    assert read_tiff_tags(path, lambda file: file.units) == (None,)
