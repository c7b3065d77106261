"""Read windows of scenes: edges, blocks, no data, names of bands."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio

from rsft.errors import DataError
from rsft.inference.scenes.raster import PixelWindow, SceneReader, open_scene
from tests.helpers.messages import mentions
from tests.helpers.scenes import UTM, ground_control_points, write_geotiff

RAMP = np.arange(20 * 30, dtype=np.uint16).reshape(20, 30) + 1


def test_windows_over_the_edge(tmp_path):
    read = SceneReader(open_scene(write_geotiff(tmp_path / "s.tif", RAMP)))
    window = read(PixelWindow(-2, 28, 3, 33))[:, :, 0]
    assert (window[2:, :2] == RAMP[:3, 28:]).all() and not window[:2].any() and not window[:, 2:].any()
    assert not read(PixelWindow(50, 50, 52, 53)).any()
    read.close()


def test_no_data(tmp_path):
    floats = RAMP.astype(np.float32)
    floats[0, 0] = -9999
    read = SceneReader(open_scene(write_geotiff(tmp_path / "s.tif", floats, nodata=-9999)))
    assert np.isnan(read(PixelWindow(-1, -1, 1, 1))).all()
    floats[0, 0] = np.nan
    with pytest.raises(DataError, match=mentions("1 of 4", "NaN")):
        SceneReader(open_scene(write_geotiff(tmp_path / "t.tif", floats)))(PixelWindow(0, 0, 2, 2))


@pytest.mark.parametrize("tiled", [{"tiled": True, "blockxsize": 256, "blockysize": 256}, {"blockysize": 1}])
def test_windows_of_whole_blocks_cover_the_scene_once(tmp_path, tiled):
    scene = open_scene(write_geotiff(tmp_path / "s.tif", np.zeros((3000, 5000), np.uint8), compress="deflate", **tiled))
    covered = np.zeros((scene.height, scene.width), np.uint8)
    for window in scene.windows():
        covered[window.top : window.bottom, window.left : window.right] += 1
        assert window.top % scene.block_shape[0] == 0 and window.left % scene.block_shape[1] == 0
        assert (window.bottom - window.top) * (window.right - window.left) <= 2**23
    assert (covered == 1).all()


@pytest.mark.parametrize(
    ("name", "names", "bands"),
    [
        ("s.tif", ("VV", "VH"), ("VV", "VH")),
        ("s.tif", ("vv", "vh"), ("VV", "VH")),
        ("s.tif", ("B1", "B8A"), ("B01", "B8A")),
        ("s.tif", ("VV", "VV"), None),
        ("s.tif", ("VV", "incidence"), None),
        ("s.tif", ("VV",), None),
        ("s1a-iw-grd-vh-20160518t084127-20160518t084152-011311-011260-002.tiff", (), ("VH",)),
    ],
)
def test_names_of_bands(tmp_path, name, names, bands):
    pixels = np.zeros((2, 4, 4) if name == "s.tif" else (4, 4), np.uint16)
    assert open_scene(write_geotiff(tmp_path / name, pixels, names=names)).bands == bands


def test_other_formats(tmp_path):
    for driver, name in (("ENVI", "s.dat"), ("NITF", "s.ntf")):
        with rasterio.open(tmp_path / name, "w", driver, width=30, height=20, count=1, dtype="uint16") as file:
            file.write(RAMP[None])
        scene = open_scene(tmp_path / name)
        assert (SceneReader(scene)(PixelWindow(0, 0, 20, 30))[:, :, 0] == RAMP).all() and scene.georeference is None


def test_description_of_the_georeference(tmp_path):
    assert open_scene(
        write_geotiff(tmp_path / "a.tif", RAMP, crs="EPSG:32633", transform=UTM)
    ).georeference.description == ("geotransform, EPSG:32633")


@pytest.mark.parametrize(("content", "message"), [(b"text", "GDAL cannot read"), (None, "no such scene")])
def test_no_scene(tmp_path, content, message):
    if content:
        (tmp_path / "x.tif").write_bytes(content)
    with pytest.raises(DataError, match=message):
        open_scene(tmp_path / "x.tif")


def test_more_bands_than_the_limit(tmp_path):
    path = tmp_path / "s.tif"
    with rasterio.open(path, "w", driver="GTiff", width=2, height=2, count=4097, dtype="uint8"):
        pass
    with pytest.raises(DataError, match=mentions("4,097 bands", "limit is 4,096")):
        open_scene(path)


def test_truncated_file(tmp_path):
    path = write_geotiff(tmp_path / "s.tif", np.random.default_rng(0).integers(0, 999, (400, 400), np.uint16))
    path.write_bytes(path.read_bytes()[:100_000])
    with pytest.raises(DataError, match="truncated"):
        SceneReader(open_scene(path))(PixelWindow(300, 300, 310, 310))


def test_palette(tmp_path):
    with rasterio.open(tmp_path / "p.png", "w", "PNG", width=4, height=4, count=1, dtype="uint8") as file:
        file.write(np.zeros((1, 4, 4), np.uint8))
        file.write_colormap(1, {0: (1, 2, 3), 1: (4, 5, 6)})
    with pytest.raises(DataError, match="palette"):
        open_scene(tmp_path / "p.png")


def product(folder, *sizes):
    """Write a Sentinel-1 product with measurements of these sides, VV first."""
    (folder / "measurement").mkdir(parents=True)
    for number, (name, side) in enumerate(zip(("vv", "vh"), sizes, strict=True), 1):
        file = f"measurement/s1a-iw-grd-{name}-20160518t084127-20160518t084152-011311-011260-00{number}.tiff"
        pixels = np.full((side, side), 10 * number, np.uint16)
        write_geotiff(folder / file, pixels, crs="EPSG:4326", gcps=ground_control_points(UTM, side, side, "EPSG:32633"))
    return folder


def test_sentinel_1_product(tmp_path):
    scene = open_scene(product(tmp_path / "S1A.SAFE", 20, 20))
    assert (scene.name, scene.bands, scene.count, scene.dtype) == ("S1A", ("VH", "VV"), 2, "uint16")
    assert scene.georeference.description == "25 ground control points, EPSG:4326"
    read = SceneReader(scene, [1, 0])
    assert read(PixelWindow(18, 18, 21, 21))[:, :, :].reshape(9, 2)[[0, 8]].tolist() == [[10, 20], [0, 0]]
    read.close()


def test_product_of_several_swaths(tmp_path):
    with pytest.raises(DataError, match=mentions("several swaths", "s1a-iw-grd-")):
        open_scene(product(tmp_path / "S1A.SAFE", 20, 24))
