"""Pixels to longitude and latitude and back: by geotransform, ground control points, RPCs, or not at all."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely
from pyproj import CRS, Geod, Transformer
from rasterio.rpc import RPC
from rasterio.transform import Affine

from rsft.inference.scenes.georeference import Georeference, _by_points, footprint, georeference, rectangle
from rsft.types import Floats
from tests.helpers.scenes import points, write

UTM = Affine(10, 0, 500_000, 0, -10, 5_000_000)


def chip(folder: Path, crs: str | None, transform: Affine | None) -> Path:
    path = folder / "chip.tif"
    profile = {"driver": "GTiff", "width": 64, "height": 32, "count": 1, "dtype": "uint8"}
    with rasterio.open(path, "w", crs=crs, transform=transform, **profile) as file:
        file.write(np.zeros((1, 32, 64), np.uint8))
    return path


def test_utm_chip(tmp_path: Path) -> None:
    outline = footprint(chip(tmp_path, "EPSG:32633", UTM))
    assert outline is not None
    assert outline.bounds == pytest.approx((15.0, 45.150596, 15.008142, 45.153477), abs=1e-6)


def test_turned_chip_keeps_its_corners(tmp_path: Path) -> None:
    outline = footprint(chip(tmp_path, "EPSG:4326", Affine(0.001, 0.0005, 20, 0.0003, -0.001, 50)))
    assert outline is not None
    assert outline.equals_exact(
        shapely.Polygon([(20, 50), (20.016, 49.968), (20.08, 49.9872), (20.064, 50.0192)]), 1e-9
    )


def test_cut_at_the_antimeridian(tmp_path: Path) -> None:
    outline = footprint(chip(tmp_path, "EPSG:32660", Affine(10, 0, 833_900, 0, -10, 100_000)))
    assert outline is not None
    assert outline.geom_type == "MultiPolygon"
    assert outline.area < 0.0001


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
def test_no_usable_georeference(tmp_path: Path, crs: str | None, transform: Affine | None) -> None:
    assert footprint(chip(tmp_path, crs, transform)) is None


def test_no_image(tmp_path: Path) -> None:
    assert footprint(tmp_path / "absent.png") is None


LOCAL = "+proj=stere +lat_0=86 +lon_0=179.9 +ellps=WGS84 +units=m"
"""Around the antimeridian, where degrees are of no use."""
LOCAL_TRANSFORM = Affine(40, 3, -20_000, -2, -40, 20_000)


def opened(path: Path) -> Georeference:
    with rasterio.open(path) as file:
        found = georeference(file)
    assert found is not None
    return found


def test_points_across_the_antimeridian_near_the_pole(tmp_path: Path) -> None:
    """Against the transform that the points were made with; half a pixel is 20 m."""
    gcps = points(LOCAL_TRANSFORM, 1000, 1000, LOCAL, steps=9)
    found = opened(write(tmp_path / "s.tif", np.zeros((1000, 1000), np.uint8), crs="EPSG:4326", gcps=gcps))
    assert found.how == "81 ground control points, EPSG:4326"
    rows, cols = np.meshgrid([3.0, 333.3, 777.7], [10.0, 500.5, 990.0])
    lonlat = found.lonlat(rows.ravel(), cols.ravel())
    assert np.ptp(lonlat[:, 0]) > 300  # both sides of 180 degrees
    x, y = Transformer.from_crs("EPSG:4326", LOCAL, always_xy=True).transform(*lonlat.T)
    expected = LOCAL_TRANSFORM * (cols.ravel(), rows.ravel())
    assert np.hypot(x - expected[0], y - expected[1]).max() < 1
    assert found.pixels(*lonlat.T) == pytest.approx(np.column_stack([rows.ravel(), cols.ravel()]), abs=0.02)
    assert found.spacing(500, 500) == pytest.approx((40.11, 40.05), abs=0.2)


def test_rational_polynomials(tmp_path: Path) -> None:
    """A linear camera: 0.001 degrees a line and a sample."""
    one, zero = [1.0] + [0.0] * 19, [0.0] * 20
    rpcs = RPC(
        height_off=0, height_scale=1, lat_off=10, lat_scale=1, line_off=50, line_scale=1000, long_off=20, long_scale=1,
        samp_off=50, samp_scale=1000, line_num_coeff=[*zero[:2], -1.0, *zero[3:]], line_den_coeff=one,
        samp_num_coeff=[0.0, 1.0, *zero[2:]], samp_den_coeff=one, err_bias=None, err_rand=None,
    )  # fmt: skip
    found = opened(write(tmp_path / "s.tif", np.zeros((100, 100), np.uint8), rpcs=rpcs))
    assert found.how == "RPCs, at height 0 m above the ellipsoid"
    assert found.lonlat(50, 50)[0] == pytest.approx((20, 10), abs=1e-3)
    assert found.lonlat(60, 80)[0] - found.lonlat(50, 50)[0] == pytest.approx((0.03, -0.01), abs=1e-6)
    assert found.pixels(*found.lonlat([12.5], [77.25])[0])[0] == pytest.approx((12.5, 77.25), abs=1e-3)


def test_an_outline_around_the_pole_is_none(tmp_path: Path) -> None:
    stereographic = Affine(1000, 0, -50_000, 0, -1000, 50_000)
    found = opened(write(tmp_path / "s.tif", np.zeros((100, 100), np.uint8), crs="EPSG:3413", transform=stereographic))
    around, beside = rectangle(0, 0, 100, 100), rectangle(0, 0, 10, 10)
    first, second = found.outlines(np.stack([around, beside]))
    assert first is None and second is not None and second.area > 0


def by_gdal(path: Path, pairs: Floats, *options: str) -> Floats:
    """(N, 2) column and row to (N, 2) by gdaltransform."""
    if shutil.which("gdaltransform") is None:
        pytest.skip("gdaltransform is not on this machine (Debian: gdal-bin)")
    lines = "\n".join(f"{col} {row}" for col, row in pairs)
    done = subprocess.run(
        ["gdaltransform", *options, "-output_xy", path], input=lines, capture_output=True, text=True, check=True
    )
    return np.array([line.split() for line in done.stdout.splitlines()], float)


@pytest.mark.realdata
def test_ground_control_points_against_gdal(shared: Callable[[str], Path]) -> None:
    """Of a real Sentinel-1 EW scene at 86 degrees north: within a pixel of 40 m of GDAL's polynomial in degrees, and
    exact at the points, of which each is left out in turn.
    """
    (path,) = shared("s1_ew_gcp").glob("S1A*.tif")
    found, earth = opened(path), Geod(ellps="WGS84")
    cols, rows = (
        axis.ravel().astype(float) for axis in np.meshgrid(np.arange(50, 1000, 150), np.arange(50, 1000, 150))
    )
    gdal = by_gdal(path, np.column_stack([cols, rows]), "-order", "3")
    lonlat = found.lonlat(rows, cols)
    assert earth.inv(*lonlat.T, *gdal.T)[2].max() < 40
    assert found.pixels(*lonlat.T) == pytest.approx(np.column_stack([rows, cols]), abs=0.02)
    with rasterio.open(path) as file:
        gcps, crs = file.gcps
    told = np.array([(point.row, point.col, point.x, point.y) for point in gcps])
    assert earth.inv(*found.lonlat(told[:, 0], told[:, 1]).T, *told[:, 2:].T)[2].max() < 0.01
    apart = []
    for number in range(0, len(gcps), 10):
        rest = _by_points(gcps[:number] + gcps[number + 1 :], CRS.from_user_input(crs))
        apart.append(earth.inv(*rest.lonlat(*told[number, :2])[0], *told[number, 2:])[2])
    assert max(apart) < 0.5


@pytest.mark.realdata
def test_a_geotransform_against_gdal(shared: Callable[[str], Path]) -> None:
    path = shared("sen1floods11_sample") / "Spain_7370579_S1Hand.tif"
    pairs = np.array([[0, 0], [100.5, 20.25], [511, 300]])
    assert opened(path).lonlat(pairs[:, 1], pairs[:, 0]) == pytest.approx(by_gdal(path, pairs), abs=1e-9)
