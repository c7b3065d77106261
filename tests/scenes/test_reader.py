"""Windows of scenes: over the edge, without data, inverted, and masked."""

import numpy as np
import pytest

from rsft.errors import DataError
from rsft.scenes.raster import PixelWindow, open_scene
from rsft.scenes.reader import AreaReader, SceneReader
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
    height, width = RAMP.shape[:2]
    assert not read(scene, height, 0, height + 2, 3).any()
    assert not read(scene, 0, width, 2, width + 3).any()


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


def test_windows_that_lie_together_are_read_at_once(tmp_path, monkeypatch):
    scene = open_scene(write_geotiff(tmp_path / "s.tif", RAMP))
    reader = AreaReader(scene, [0])
    areas = []
    # private: the calls of GDAL are counted
    real = SceneReader._read_inside
    monkeypatch.setattr(
        SceneReader,
        "_read_inside",
        lambda self, window: (areas.append(window), real(self, window))[1],
    )
    windows = [PixelWindow(-2, x, 6, x + 8) for x in (-3, 5, 13, 21)]
    far = PixelWindow(30, 0, 34, 4)
    for number, window in enumerate([*windows, far]):
        reader.read_ahead([*windows, far][number:])
        pixels, _ = reader.read(window)
        np.testing.assert_array_equal(pixels, read(scene, *window))
        pixels[:] = 0  # the caller may change them
    assert [x for x in areas if x.size != (6, 8)][:1] == [PixelWindow(0, 0, 6, 29)]


def test_a_fault_of_one_window_is_not_that_of_its_neighbors(tmp_path):
    floats = RAMP.astype(np.float32)
    floats[0, 9] = np.nan
    reader = AreaReader(open_scene(write_geotiff(tmp_path / "s.tif", floats)), [0])
    windows = [PixelWindow(0, x, 4, x + 4) for x in (0, 4, 8, 12)]
    faults = []
    for number, window in enumerate(windows):
        reader.read_ahead(windows[number:])
        try:
            assert (
                reader.read(window)[0][:, :, 0] == RAMP[:4, window.left :][:, :4]
            ).all()
        except DataError:
            faults.append(number)
    assert faults == [2]
