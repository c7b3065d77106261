"""The simulated scene: georeference, truth that agrees with the pixels, bright land,
one scene per seed."""

from functools import cache

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from rasterio.features import rasterize

from rsft.plugins.demo.placement import place_ships, sample_coast
from rsft.plugins.demo.radar import Shore
from rsft.plugins.demo.scene import SCENE_CLASSES, SCENE_CRS, write_scene

pytestmark = pytest.mark.slow

SEEDS = (0, 1, 2)


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """Return the folder of the scene of a seed."""

    @cache
    def write(seed):
        folder = tmp_path_factory.mktemp("scenes") / str(seed)
        write_scene(folder, seed=seed)
        return folder

    return write


def read_pixels(folder):
    with rasterio.open(folder / "scene.tif") as file:
        return file.read(1).astype(float)


def read_layers(folder):
    return geopandas.read_file(folder / "ships.gpkg"), geopandas.read_file(
        folder / "land.gpkg"
    )


def burn(shapes, folder):
    with rasterio.open(folder / "scene.tif") as file:
        return rasterize(shapes, file.shape, transform=file.transform).astype(bool)


def test_the_scene_has_a_georeference_a_unit_tag_and_says_that_it_is_simulated(scene):
    with rasterio.open(scene(0) / "scene.tif") as file:
        assert file.crs == rasterio.crs.CRS.from_string(SCENE_CRS) and file.res == (
            2.25,
            3.4375,
        )
        assert (file.dtypes, file.descriptions, file.units) == (
            ("uint16",),
            ("HH",),
            ("DN",),
        )
        lon, lat = file.lnglat()
        assert abs(lon) < 0.05 and abs(lat) < 0.05  # no land for 500 km
        assert "Simulated" in file.tags()["TIFFTAG_IMAGEDESCRIPTION"]
    ships, land = read_layers(scene(0))
    assert ships.crs == land.crs == SCENE_CRS


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_the_truth_agrees_with_the_pixels(scene, seed):
    pixels = read_pixels(scene(seed))
    ships, land = read_layers(scene(seed))
    counts = ships["class"].value_counts()
    # a ship may find no position
    assert all(counts[name] >= count - 2 for name, count in SCENE_CLASSES.items())
    assert not ships.intersects(land.union_all().buffer(100)).any()
    land_mask = burn(land.geometry, scene(seed))
    near_ship = burn(ships.buffer(60), scene(seed))
    sea = np.median(pixels[~land_mask & ~near_ship])
    brightest = [pixels[burn([shape], scene(seed))].max() for shape in ships.buffer(5)]
    assert min(brightest) > 4 * sea and np.median(brightest) > 10 * sea
    edges = np.diff(
        [np.array(shape.exterior.coords)[:3] for shape in ships.geometry], axis=1
    )
    lengths = np.linalg.norm(edges, axis=2).max(axis=1)
    np.testing.assert_allclose(lengths, ships["length_m"], atol=0.1)
    keels = [max(pair, key=np.linalg.norm) for pair in edges]
    azimuths = [np.degrees(np.arctan2(east, north)) for east, north in keels]
    errors = (ships["heading_deg"] - azimuths + 90) % 180 - 90
    assert abs(errors).max() < 1


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_land_is_brighter_than_water_and_covers_a_part_of_the_scene(scene, seed):
    pixels = read_pixels(scene(seed))
    _, land = read_layers(scene(seed))
    mask = burn(land.geometry, scene(seed))
    contrast = 20 * np.log10(np.median(pixels[mask]) / np.median(pixels[~mask]))
    assert 0.1 < mask.mean() < 0.4 and 2 < contrast < 25  # dB


def test_ships_lie_apart_and_headings_are_spread(scene):
    ships, _ = read_layers(scene(0))
    distances = [
        a.distance(b) for i, a in enumerate(ships.geometry) for b in ships.geometry[:i]
    ]
    assert min(distances) > 100 and np.ptp(ships["heading_deg"]) > 250


@pytest.mark.exhaustive
def test_the_seed_decides_pixels_and_truth(scene, tmp_path):
    write_scene(tmp_path / "again", seed=0)
    assert np.array_equal(read_pixels(tmp_path / "again"), read_pixels(scene(0)))
    again = read_layers(tmp_path / "again")[0]
    ships = read_layers(scene(0))[0]
    assert again.equals(ships) and not np.array_equal(
        read_pixels(scene(1)), read_pixels(scene(0))
    )


def test_the_outline_of_a_coast_is_where_land_begins():
    coast = sample_coast(np.random.default_rng(0), 2000)
    outline = coast.outline(3000)
    assert (
        abs(coast.distance_inland(*outline[:-2].T)).max() < 1e-2 and not coast.has_quay
    )
    inside = shapely.Polygon(outline)
    points = np.random.default_rng(1).uniform(-1000, 1000, (500, 2)).astype(np.float32)
    is_land = coast.distance_inland(*points.T) > 0
    assert np.mean(shapely.contains_xy(inside, points) == is_land) > 0.99


def test_no_ship_is_moored_at_a_natural_coast():
    coast = Shore(0.0, 300.0, ((50.0, 700.0, 0.0),))
    poses = place_ships(
        ["fishing"] * 20, coast, (1000.0, 3000.0), np.random.default_rng(0), 40.0
    ).values()
    assert len(poses) > 15 and max(abs(pose.x) for pose in poses) <= 500 < max(
        abs(pose.y) for pose in poses
    )
    assert (
        max(coast.distance_inland(*pose.bounding_box().T).max() for pose in poses)
        <= -40
    )
