"""Windows of scenes: over the edge, without data, inverted, and masked."""

import numpy as np
import pytest

from rsft.errors import DataError
from rsft.scenes.raster import open_scene
from tests.helpers.messages import mentions
from tests.helpers.scenes import add_mask, write_geotiff
from tests.scenes.test_raster import RAMP, read, refused


def test_windows_over_the_edge(tmp_path):
    scene = open_scene(write_geotiff(tmp_path / "s.tif", RAMP))
    window = read(scene, -2, 28, 3, 33)[:, :, 0]
    assert (
        (window[2:, :2] == RAMP[:3, 28:]).all()
        and not window[:2].any()
        and not window[:, 2:].any()
    )
    assert not read(scene, 50, 50, 52, 53).any()


def test_no_data(tmp_path):
    floats = RAMP.astype(np.float32)
    floats[0, 0] = -9999
    scene = open_scene(write_geotiff(tmp_path / "s.tif", floats, nodata=-9999))
    assert np.isnan(read(scene, -1, -1, 1, 1)).all()
    floats[0, 0] = np.nan
    with pytest.raises(DataError, match=mentions("1 of 4", "NaN")):
        read(open_scene(write_geotiff(tmp_path / "t.tif", floats)), 0, 0, 2, 2)


def test_inverted_pixels(tmp_path):
    refused(
        write_geotiff(
            tmp_path / "s.tif", np.eye(4, dtype=np.uint8), photometric="miniswhite"
        ),
        "MINISWHITE",
    )


def test_pixels_outside_of_the_mask_have_no_data(tmp_path):
    path = write_geotiff(tmp_path / "s.tif", np.full((4, 4), 7, np.uint8))
    add_mask(path, np.eye(4, dtype=bool))
    assert read(open_scene(path), 1, 1, 3, 3)[:, :, 0].tolist() == [[7, 0], [0, 7]]
    path = write_geotiff(tmp_path / "s.tif", np.full((4, 4), 7, np.uint8), scales=(2,))
    add_mask(path, np.eye(4, dtype=bool))
    np.testing.assert_array_equal(
        read(open_scene(path), 1, 1, 3, 3)[:, :, 0], [[14, np.nan], [np.nan, 14]]
    )
