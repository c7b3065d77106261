"""The displacement of moving ships, computed by hand for both passes and both look
sides; times of scenes."""

from __future__ import annotations

import numpy as np
import pytest

from rsft.data.imagery.products.product import RadarMotion
from rsft.errors import RequestError
from rsft.plugins.ais.displacement import SHIFT_SIGMA, Acquisition, azimuth_shift
from rsft.plugins.ais.tracks import ShipStates
from rsft.scenes.raster import open_scene
from tests.helpers.scenes import UTM, write_geotiff
from tests.helpers.sentinel1 import write_product

START = 1_611_026_213.799379  # 2021-01-19T03:16:53.799379Z
# -718.9 m: R v sin(40 degrees) / V, against the flight direction
AWAY = -850_000 * 10 * 0.6427876 / 7600


@pytest.mark.parametrize(
    ("flight", "looks_right", "course", "expected"),
    [
        # descending; the radar looks to the west, and the ship sails away from it
        (
            190.0,
            True,
            280.0,
            AWAY,
        ),
        # it comes nearer, and appears displaced in flight direction
        (
            190.0,
            True,
            100.0,
            -AWAY,
        ),
        (350.0, True, 80.0, AWAY),  # ascending; the radar looks to the east
        (350.0, True, 260.0, -AWAY),
        (190.0, False, 100.0, AWAY),
        (190.0, False, 280.0, -AWAY),
        (350.0, False, 260.0, AWAY),
        (350.0, False, 80.0, -AWAY),
        (190.0, True, 190.0, 0.0),  # along the flight direction
        (190.0, True, 220.0, AWAY / 2),  # 60 degrees from the look direction
    ],
)
def test_azimuth_shift(flight, looks_right, course, expected):
    motion = RadarMotion(None, None, 7600.0, looks_right)
    shift = azimuth_shift(
        *map(np.array, (10.0, course, flight, 40.0, 850_000.0)), motion
    )
    assert float(shift) == pytest.approx(expected, abs=0.1)


def states(lon, lat, speed=0.0, course=0.0):
    values = [
        np.array([float(x)]) for x in (lon, lat, speed, course, course, 0.0, 60.0)
    ]
    return ShipStates(*values)


@pytest.fixture
def scene(tmp_path):
    return open_scene(
        write_product(tmp_path, {"vv": np.full((300, 200), 100, np.uint16)})
    )


def test_times_of_the_lines(scene):
    acquisition = Acquisition.of(scene)
    lon, lat = scene.georeference.pixels_to_lonlat([0, 100, 299], [50, 50, 50]).T
    assert acquisition.time_at(lon, lat) - START == pytest.approx(
        [0, 0.15, 0.4485], abs=1e-4
    )
    assert acquisition.end - acquisition.start == pytest.approx(0.4485, abs=1e-4)
    assert "azimuth times of the lines" in acquisition.note


def test_a_ship_that_sails_to_the_west_appears_north_of_its_place(scene):
    """The lines of the scene run to the south, and the radar looks to the right of this
    direction, to the west."""
    lon, lat = scene.georeference.pixels_to_lonlat(150, 100)[0]
    view = Acquisition.of(scene).view(states(lon, lat, 10.0, 270.0))
    slant_range = 800e3 + 150e3 * 100 / 199
    incidence = 30 + 16 * 100 / 199 + 0.1 * 150 / 299
    expected = -slant_range * 10 * np.sin(np.radians(incidence)) / 7600
    assert view.shift[0] == pytest.approx(expected, abs=0.5) and view.flight[
        0
    ] % 360 == pytest.approx(180, abs=0.1)
    ((row, col),) = scene.georeference.lonlat_to_pixels(view.lon, view.lat)
    assert (row, col) == (
        pytest.approx(150 + expected / 10, abs=0.2),
        pytest.approx(100, abs=0.2),
    )
    assert view.along[0] > view.across[0] == 20


def test_without_the_motion_the_uncertainty_grows(scene):
    acquisition = Acquisition.of(scene, "2021-01-19T05:16:53+02:00")
    assert (
        acquisition.start == pytest.approx(START - 0.799379)
        and "--time" in acquisition.note
    )
    view = acquisition.view(states(15, 45, 10.0, 270.0))
    assert (view.lon[0], view.lat[0], view.shift[0]) == (15, 45, 0)
    assert (
        view.along[0] == view.across[0] == pytest.approx(np.hypot(20, 10 * SHIFT_SIGMA))
    )


def geotiff(folder, **tags):
    profile = {"crs": "EPSG:32633", "transform": UTM}
    return open_scene(
        write_geotiff(
            folder / "scene.tif", np.full((32, 32), 9, np.uint8), tags=tags, **profile
        )
    )


@pytest.mark.parametrize(
    ("tags", "second"),
    [
        ({"ACQUISITION_START_UTC": "2021-01-19T03:16:53"}, START - 0.799379),
    ],
)
def test_time_tags(tmp_path, tags, second):
    acquisition = Acquisition.of(geotiff(tmp_path, **tags))
    assert (
        acquisition.start == pytest.approx(second)
        and next(iter(tags)) in acquisition.note
    )


def test_scenes_without_time_or_place(tmp_path):
    with pytest.raises(RequestError, match="no time of its acquisition") as caught:
        Acquisition.of(geotiff(tmp_path))
    assert "--time 2021" in caught.value.hint
    with pytest.raises(RequestError, match="is not a time"):
        Acquisition.of(geotiff(tmp_path), "half past three")
    with pytest.raises(RequestError, match="is not a time"):
        Acquisition.of(geotiff(tmp_path, ACQUISITION_TIME="in March"))
    plain = open_scene(
        write_geotiff(tmp_path / "plain.tif", np.zeros((32, 32), np.uint8))
    )
    with pytest.raises(RequestError, match="no georeference"):
        Acquisition.of(plain, "2021-01-19T03:16:53Z")
