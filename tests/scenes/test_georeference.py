"""Transform pixels to longitude and latitude and back, by geotransform, ground control
points, RPCs and odd GeoKeys."""

import shutil
import subprocess

import numpy as np
import pytest
import rasterio
import shapely
from pyproj import CRS, Geod, Transformer
from rasterio.rpc import RPC
from rasterio.transform import Affine

from rsft.data.imagery.band_names import read_band_names
from rsft.data.imagery.rasters import read_tiff_tags
from rsft.data.imagery.reader import read_chip
from rsft.inference.predict.scene_chips import describe_scene

# coordinates of points, without a file that has them
from rsft.scenes.georeference import (
    _from_points,
    read_georeference,
    rectangle_corners,
)
from rsft.scenes.raster import PixelWindow, open_scene
from rsft.scenes.reader import SceneReader
from tests.helpers.geokeys import ODD_GEOKEYS, write_scene_with_geokeys
from tests.helpers.scenes import (
    UTM,
    ground_control_points,
    read_footprint,
    write_geotiff,
)

BLANK = np.zeros((100, 100), np.uint8)


def chip(folder, crs, transform):
    return write_geotiff(
        folder / "chip.tif", np.zeros((32, 64), np.uint8), crs=crs, transform=transform
    )


def test_utm_chip(tmp_path):
    outline = read_footprint(chip(tmp_path, "EPSG:32633", UTM))
    assert outline is not None
    assert outline.bounds == pytest.approx(
        (15.0, 45.150596, 15.008142, 45.153477), abs=1e-6
    )


def test_rotated_chip_keeps_its_corners(tmp_path):
    outline = read_footprint(
        chip(tmp_path, "EPSG:4326", Affine(0.001, 0.0005, 20, 0.0003, -0.001, 50))
    )
    assert outline is not None
    corners = [(20, 50), (20.016, 49.968), (20.08, 49.9872), (20.064, 50.0192)]
    assert outline.equals_exact(shapely.Polygon(corners), 1e-9)


def test_cut_at_the_antimeridian(tmp_path):
    outline = read_footprint(
        chip(tmp_path, "EPSG:32660", Affine(10, 0, 833_900, 0, -10, 100_000))
    )
    assert (
        outline is not None
        and outline.geom_type == "MultiPolygon"
        and outline.area < 0.0001
    )


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize(
    ("crs", "transform"),
    [
        (None, UTM),
        ("EPSG:32633", None),
        ('LOCAL_CS["plane",UNIT["metre",1]]', UTM),
        ("EPSG:32633", Affine(10, 0, 5e15, 0, -10, 5e16)),
        ("EPSG:4326", Affine(1, 0, 200, 0, -1, 95)),
    ],
)
def test_no_usable_georeference(tmp_path, crs, transform):
    assert read_footprint(chip(tmp_path, crs, transform)) is None


@pytest.mark.parametrize("west", [179.8, -180.2, 359.8, -0.2])
@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:4258"])
def test_longitudes_beyond_the_antimeridian(tmp_path, west, crs):
    """Both sides are in the scene, and have longitudes of -180 to 180 degrees."""
    path = write_geotiff(
        tmp_path / "a.tif",
        np.zeros((400, 600), np.uint8),
        crs=crs,
        transform=Affine(0.001, 0, west, 0, -0.001, 10),
    )
    georeference = open_scene(path).georeference
    lonlat = georeference.pixels_to_lonlat([100, 300], [50, 550])
    expected = np.array([[west + 0.05, 9.9], [west + 0.55, 9.7]])
    expected[:, 0] = (expected[:, 0] + 180) % 360 - 180
    assert lonlat == pytest.approx(expected, abs=1e-9)
    for turns in (-360, 0, 360):
        pixels = georeference.lonlat_to_pixels(lonlat[:, 0] + turns, lonlat[:, 1])
        assert pixels == pytest.approx(np.array([[100, 50], [300, 550]]), abs=1e-6)
    corners = rectangle_corners(90, 540, 110, 560)[None]
    (polygon,) = georeference.outline_polygons(corners)
    assert polygon is not None and polygon.area == pytest.approx(0.02**2)
    assert georeference.spacing_at(200, 300) == pytest.approx((110.6, 109.6), abs=0.2)


def test_a_wrong_control_point_is_named(tmp_path):
    transform = Affine(10, 0, 5e5, 0, -10, 5e6)
    points = ground_control_points(transform, 600, 600, "EPSG:32633", steps=3)
    path = tmp_path / "a.tif"
    for wrong in (False, True):
        points[4].x += 0.05 * wrong
        with rasterio.open(
            path, "w", "GTiff", 600, 600, 1, dtype="uint8", gcps=points, crs="EPSG:4326"
        ):
            pass
        description = open_scene(path).georeference.description
        assert description.startswith("9 ground control points, EPSG:4326")
        assert ("row 300, column 300" in description) is wrong


LOCAL = "+proj=stere +lat_0=86 +lon_0=179.9 +ellps=WGS84 +units=m"
"""Around the antimeridian, where fits in degrees fail."""
LOCAL_TRANSFORM = Affine(40, 3, -20_000, -2, -40, 20_000)


def open_georeference(path):
    with rasterio.open(path) as file:
        georeference = read_georeference(file)
    assert georeference is not None
    return georeference


def test_points_across_the_antimeridian_near_the_pole(tmp_path):
    """Compare with the transform that the points were made with; half a pixel is 20
    m."""
    gcps = ground_control_points(LOCAL_TRANSFORM, 1000, 1000, LOCAL, steps=9)
    pixels = np.zeros((1000, 1000), np.uint8)
    georeference = open_georeference(
        write_geotiff(tmp_path / "s.tif", pixels, crs="EPSG:4326", gcps=gcps)
    )
    assert georeference.description == "81 ground control points, EPSG:4326"
    rows, cols = np.meshgrid([3.0, 333.3, 777.7], [10.0, 500.5, 990.0])
    lonlat = georeference.pixels_to_lonlat(rows.ravel(), cols.ravel())
    assert np.ptp(lonlat[:, 0]) > 300  # both sides of 180 degrees
    x, y = Transformer.from_crs("EPSG:4326", LOCAL, always_xy=True).transform(*lonlat.T)
    expected = LOCAL_TRANSFORM @ (cols.ravel(), rows.ravel())
    assert np.hypot(x - expected[0], y - expected[1]).max() < 1
    pairs = np.column_stack([rows.ravel(), cols.ravel()])
    assert georeference.lonlat_to_pixels(*lonlat.T) == pytest.approx(pairs, abs=0.02)
    assert georeference.spacing_at(500, 500) == pytest.approx((40.11, 40.05), abs=0.2)


def test_a_spline_has_a_largest_number_of_points(tmp_path, monkeypatch):
    """A product may state a million points, and the spline takes their cube."""
    monkeypatch.setattr("rsft.scenes.georeference.MAX_SPLINE_POINTS", 200)
    transform = Affine(10, 1, 5e5, 2, -10, 5e6)
    points = ground_control_points(transform, 600, 600, "EPSG:32633", steps=30)
    path = tmp_path / "a.tif"
    pixels = np.zeros((600, 600), np.uint8)
    georeference = open_georeference(
        write_geotiff(path, pixels, crs="EPSG:4326", gcps=points)
    )
    assert georeference.description == "200 of 900 ground control points, EPSG:4326"
    rows, cols = np.array([[0.0, 300, 599], [0.0, 301, 599]])
    lonlat = georeference.pixels_to_lonlat(rows, cols)
    x, y = Transformer.from_crs("EPSG:4326", 32633, always_xy=True).transform(*lonlat.T)
    expected = transform @ (cols, rows)
    assert np.hypot(x - expected[0], y - expected[1]).max() < 0.1


def test_rational_polynomials(tmp_path):
    """A linear camera: 0.001 degrees per line and sample."""
    one = [1.0] + [0.0] * 19
    zero = [0.0] * 20
    rpcs = RPC(
        height_off=0, height_scale=1, lat_off=10, lat_scale=1, line_off=50, line_scale=1000, long_off=20, long_scale=1,
        samp_off=50, samp_scale=1000, line_num_coeff=[*zero[:2], -1.0, *zero[3:]], line_den_coeff=one,
        samp_num_coeff=[0.0, 1.0, *zero[2:]], samp_den_coeff=one, err_bias=None, err_rand=None,
    )  # fmt: skip
    georeference = open_georeference(
        write_geotiff(tmp_path / "s.tif", BLANK, rpcs=rpcs)
    )
    assert georeference.description == "RPCs, at height 0 m above the ellipsoid"
    middle, other, third = georeference.pixels_to_lonlat(
        [50, 60, 12.5], [50, 80, 77.25]
    )
    assert middle == pytest.approx((20, 10), abs=1e-3)
    assert other - middle == pytest.approx((0.03, -0.01), abs=1e-6)
    assert georeference.lonlat_to_pixels(*third)[0] == pytest.approx(
        (12.5, 77.25), abs=1e-3
    )


def test_outline_around_the_pole_is_none(tmp_path):
    stereographic = Affine(1000, 0, -50_000, 0, -1000, 50_000)
    path = write_geotiff(
        tmp_path / "s.tif", BLANK, crs="EPSG:3413", transform=stereographic
    )
    georeference = open_georeference(path)
    around = rectangle_corners(0, 0, 100, 100)
    beside = rectangle_corners(0, 0, 10, 10)
    first, second = georeference.outline_polygons(np.stack([around, beside]))
    assert first is None and second is not None and second.area > 0


def by_gdal(path, pairs, *options):
    """Transform column and row (N, 2) to longitude and latitude (N, 2) by
    gdaltransform."""
    if shutil.which("gdaltransform") is None:
        pytest.skip("gdaltransform is not on this machine (Debian: gdal-bin)")
    lines = "\n".join(f"{col} {row}" for col, row in pairs)
    command = ["gdaltransform", *options, "-output_xy", path]
    done = subprocess.run(
        command, input=lines, capture_output=True, text=True, check=True
    )
    return np.array([line.split() for line in done.stdout.splitlines()], float)


@pytest.mark.slow
@pytest.mark.realdata
def test_ground_control_points_against_gdal(shared):
    """Compare on a Sentinel-1 EW scene at 86 degrees north, with pixels of 40 m.

    The result is within one pixel of GDAL's polynomial in degrees. It is exact at the
    points, and points that are left out are predicted.
    """
    (path,) = shared("s1_ew_gcp").glob("S1A*.tif")
    georeference = open_georeference(path)
    earth = Geod(ellps="WGS84")
    cols, rows = np.mgrid[50.0:1000:150, 50.0:1000:150].reshape(2, -1)
    gdal = by_gdal(path, np.column_stack([cols, rows]), "-order", "3")
    lonlat = georeference.pixels_to_lonlat(rows, cols)
    assert earth.inv(*lonlat.T, *gdal.T)[2].max() < 40
    assert georeference.lonlat_to_pixels(*lonlat.T) == pytest.approx(
        np.column_stack([rows, cols]), abs=0.02
    )
    with rasterio.open(path) as file:
        gcps, crs = file.gcps
    values = np.array([(point.row, point.col, point.x, point.y) for point in gcps])
    assert (
        earth.inv(
            *georeference.pixels_to_lonlat(values[:, 0], values[:, 1]).T,
            *values[:, 2:].T,
        )[2].max()
        < 0.01
    )
    distances = []
    for number in range(0, len(gcps), 10):
        others = _from_points(
            gcps[:number] + gcps[number + 1 :], CRS.from_user_input(crs)
        )
        distances.append(
            earth.inv(
                *others.pixels_to_lonlat(*values[number, :2])[0], *values[number, 2:]
            )[2]
        )
    assert max(distances) < 0.5


@pytest.mark.realdata
def test_geotransform_against_gdal(shared):
    path = shared("sen1floods11_sample") / "Spain_7370579_S1Hand.tif"
    pairs = np.array([[0, 0], [100.5, 20.25], [511, 300]])
    lonlat = open_georeference(path).pixels_to_lonlat(pairs[:, 1], pairs[:, 0])
    assert lonlat == pytest.approx(by_gdal(path, pairs), abs=1e-9)


WITH_COORDINATES = {
    "user_defined_projection",
    "unknown_units",
    "unknown_vertical_system",
}


@pytest.mark.parametrize("name", ODD_GEOKEYS)
def test_odd_geokeys(name, tmp_path):
    path = write_scene_with_geokeys(tmp_path / "a.tif", ODD_GEOKEYS[name])
    scene = open_scene(path)
    reader = SceneReader(scene)
    assert reader(PixelWindow(0, 0, 48, 64)).shape == (48, 64, 1)
    reader.close()
    note, *_ = describe_scene(scene, None, None)
    if name in WITH_COORDINATES:
        assert scene.georeference is not None and note.startswith(
            "georeference of a.tif: geotransform"
        )
        lon, lat = scene.georeference.pixels_to_lonlat(24, 32)[0]
        assert abs(lon) <= 180 and abs(lat) <= 90
    else:
        assert (
            scene.georeference is None
            and note == "a.tif has no georeference: coordinates are in pixels"
        )
    assert (read_footprint(path) is not None) is (name in WITH_COORDINATES)


@pytest.mark.parametrize("name", ODD_GEOKEYS)
def test_chips_with_odd_geokeys(name, tmp_path):
    path = write_scene_with_geokeys(tmp_path / "a.tif", ODD_GEOKEYS[name])
    assert np.ptp(read_chip(path)) > 0
    assert read_tiff_tags(path, read_band_names) is None
    assert read_tiff_tags(path, lambda file: file.units) == (None,)
