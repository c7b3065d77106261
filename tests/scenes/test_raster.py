"""Read windows of scenes: files, archives, web servers, subdatasets and STAC items; and
what goes wrong there."""

import os
import zipfile

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from scipy.io import netcdf_file

from rsft.data.imagery.scene_uri import SceneUri
from rsft.errors import DataError, NetworkError, RequestError
from rsft.scenes.raster import PixelWindow, open_scene
from rsft.scenes.reader import SceneReader
from tests.helpers.messages import mentions
from tests.helpers.scenes import UTM, ground_control_points, write_geotiff
from tests.scenes.conftest import LARGE_RAMP

RAMP = np.arange(20 * 30, dtype=np.uint16).reshape(20, 30) + 1


def read(scene, *edges):
    """Return pixels (H, W, B) of a scene from the top, left, bottom and right edge of a
    window."""
    reader = SceneReader(scene)
    try:
        return reader(PixelWindow(*edges))
    finally:
        reader.close()


def refused(name, message, error=DataError):
    """Assert that a scene cannot be opened."""
    with pytest.raises(error, match=message):
        open_scene(name)


@pytest.mark.parametrize(
    "tiled", [{"tiled": True, "blockxsize": 256, "blockysize": 256}, {"blockysize": 1}]
)
def test_windows_of_whole_blocks_cover_the_scene_once(tmp_path, tiled):
    scene = open_scene(
        write_geotiff(
            tmp_path / "s.tif",
            np.zeros((3000, 5000), np.uint8),
            compress="deflate",
            **tiled,
        )
    )
    covered = np.zeros((scene.height, scene.width), np.uint8)
    for window in scene.windows():
        covered[window.top : window.bottom, window.left : window.right] += 1
        assert (
            window.top % scene.block_shape[0] == 0
            and window.left % scene.block_shape[1] == 0
        )
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
        (
            "s1a-iw-grd-vh-20160518t084127-20160518t084152-011311-011260-002.tiff",
            (),
            ("VH",),
        ),
    ],
)
def test_names_of_bands(tmp_path, name, names, bands):
    pixels = np.zeros((2, 4, 4) if name == "s.tif" else (4, 4), np.uint16)
    assert (
        open_scene(write_geotiff(tmp_path / name, pixels, names=names)).bands == bands
    )


def test_other_formats(tmp_path):
    for driver, name in (("ENVI", "s.dat"), ("NITF", "s.ntf")):
        with rasterio.open(
            tmp_path / name, "w", driver, width=30, height=20, count=1, dtype="uint16"
        ) as file:
            file.write(RAMP[None])
        scene = open_scene(tmp_path / name)
        assert (
            read(scene, 0, 0, 20, 30)[:, :, 0] == RAMP
        ).all() and scene.georeference is None


def test_description_of_the_georeference(tmp_path):
    path = write_geotiff(tmp_path / "a.tif", RAMP, crs="EPSG:32633", transform=UTM)
    assert open_scene(path).georeference.description == "geotransform, EPSG:32633"


@pytest.mark.parametrize(
    ("content", "message", "error"),
    [(b"text", "GDAL cannot read", DataError), (None, "no such scene", RequestError)],
)
def test_no_scene(tmp_path, content, message, error):
    if content:
        (tmp_path / "x.tif").write_bytes(content)
    refused(tmp_path / "x.tif", message, error)


def test_more_bands_than_the_limit(tmp_path):
    path = tmp_path / "s.tif"
    with rasterio.open(
        path, "w", driver="GTiff", width=2, height=2, count=4097, dtype="uint8"
    ):
        pass
    refused(path, mentions("4,097 bands", "limit is 4,096"))


def test_truncated_file(tmp_path):
    path = write_geotiff(
        tmp_path / "s.tif",
        np.random.default_rng(0).integers(0, 999, (400, 400), np.uint16),
    )
    path.write_bytes(path.read_bytes()[:100_000])
    with pytest.raises(DataError, match="truncated"):
        read(open_scene(path), 300, 300, 310, 310)


def test_geotiff_without_its_end_is_damaged_and_not_of_another_format(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 999, (400, 400), np.uint16)
    # the directory of the file is at its end
    path = write_geotiff(tmp_path / "s.tif", pixels, compress="deflate")
    content = path.read_bytes()
    for size in (8, len(content) // 2):
        path.write_bytes(content[:size])
        refused(
            path,
            mentions("the GeoTIFF is truncated or damaged", "download the file again"),
        )
    path.write_text("no raster")
    refused(path, "in a format that rsft allows")


def test_palette(tmp_path):
    with rasterio.open(
        tmp_path / "p.png", "w", "PNG", width=4, height=4, count=1, dtype="uint8"
    ) as file:
        file.write(np.zeros((1, 4, 4), np.uint8))
        file.write_colormap(1, {0: (1, 2, 3), 1: (4, 5, 6)})
    refused(tmp_path / "p.png", "palette")


def product(folder, *sizes):
    """Write a Sentinel-1 product with measurements of these sides, VV first."""
    (folder / "measurement").mkdir(parents=True)
    for number, (name, side) in enumerate(zip(("vv", "vh"), sizes, strict=True), 1):
        file = f"measurement/s1a-iw-grd-{name}-20160518t084127-20160518t084152-011311-011260-00{number}.tiff"
        pixels = np.full((side, side), 10 * number, np.uint16)
        write_geotiff(
            folder / file,
            pixels,
            crs="EPSG:4326",
            gcps=ground_control_points(UTM, side, side, "EPSG:32633"),
        )
    return folder


def test_sentinel_1_product(tmp_path):
    scene = open_scene(product(tmp_path / "S1A.SAFE", 20, 20))
    assert (scene.name, scene.bands, scene.count, scene.dtype) == (
        "S1A",
        ("VH", "VV"),
        2,
        "uint16",
    )
    assert scene.georeference.description == "25 ground control points, EPSG:4326"
    reader = SceneReader(scene, [1, 0])
    assert reader(PixelWindow(18, 18, 21, 21)).reshape(9, 2)[[0, 8]].tolist() == [
        [10, 20],
        [0, 0],
    ]
    reader.close()


def test_product_of_several_swaths(tmp_path):
    refused(
        product(tmp_path / "S1A.SAFE", 20, 24),
        mentions("several swaths", "s1a-iw-grd-"),
    )


def is_large_ramp(name):
    """Return whether four pixels of a scene are those of the large ramp."""
    return (
        read(open_scene(name), 10, 20, 12, 22)[:, :, 0] == LARGE_RAMP[10:12, 20:22]
    ).all()


def archive(path, *members):
    with zipfile.ZipFile(path, "w") as file:
        for member in members:
            file.write(member, f"in/{member.name}")
    return path


def test_a_raster_in_an_archive(folder):
    path = archive(folder / "z.zip", folder / "a b.tif")
    assert is_large_ramp(f"/vsizip/{path}/in/a b.tif")
    assert open_scene(f"/vsizip/{path}/in/a b.tif").name == "a_b"


def test_archives_that_are_no_scene(folder):
    path = archive(folder / "two.zip", folder / "a b.tif", folder / "ü.tif")
    refused(path, mentions("two.zip", "name a raster in it: /vsizip/"))
    assert is_large_ramp(f"/vsizip/{{{path}}}/in/ü.tif")
    refused(archive(folder / "none.zip"), mentions("Sentinel-1", "none.zip"))
    (folder / "cut.zip").write_bytes((folder / "two.zip").read_bytes()[:999])
    refused(folder / "cut.zip", mentions("archive", "cut.zip"))
    refused(f"/vsizip/{folder}/two.zip/in/missing.tif", mentions("GDAL", "scene"))
    refused(f"/vsizip/{folder}/missing.zip/in/a.tif", "no such scene", RequestError)
    refused(folder, mentions("GDAL", "give the folder of a product"))


@pytest.mark.parametrize("name", ["raw.tif", "raw.vrt"])
def test_text_that_names_a_file_is_no_scene(tmp_path, name):
    band = "<SourceFilename>/etc/passwd</SourceFilename><PixelOffset>1</PixelOffset><LineOffset>20</LineOffset>"
    band = (
        '<VRTRasterBand dataType="Byte" band="1"'
        f' subClass="VRTRawRasterBand">{band}</VRTRasterBand>'
    )
    (tmp_path / name).write_text(
        f'<VRTDataset rasterXSize="40" rasterYSize="40">{band}</VRTDataset>'
    )
    refused(tmp_path / name, r"GDAL cannot read|contains VRTRawRasterBand")


@pytest.mark.skipif(
    not hasattr(os, "mkfifo"), reason="this system has no pipes in folders"
)
def test_pipes_are_no_scene(tmp_path):
    for name in ("a.tif", "a.json"):
        os.mkfifo(tmp_path / name)
        refused(tmp_path / name, mentions("pipe", "device"))


@pytest.mark.parametrize("name", ["a%20b.tif", "a b.tif", "ü.tif", "%C3%BC.tif"])
def test_scene_on_a_web_server_is_read_in_parts(server, name):
    scene = open_scene(server.url(name))
    assert is_large_ramp(server.url(name))
    assert str(scene.path) == server.url(name) and scene.path.name in (
        "a b.tif",
        "ü.tif",
    )
    # no search for other files
    assert {request.split(" ", 1)[1] for request in server.requests} == {
        scene.path.name
    }


def test_signed_address(server):
    server.query = "se=2030&sig=a%2Bb"
    scene = open_scene(server.url("a%20b.tif?se=2030&sig=a%2Bb"))
    assert str(scene.path) == server.url("a%20b.tif") and scene.name == "a_b"
    with pytest.raises(
        NetworkError, match=r"127.0.0.1 answered 403 Forbidden"
    ) as caught:
        open_scene(server.url("a%20b.tif?se=2020&sig=old"))
    assert (
        "old" not in str(caught.value) and "signature has expired" in caught.value.hint
    )


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        (
            "missing.tif",
            NetworkError,
            "127.0.0.1 answered 404 Not Found.*check the address",
        ),
        (
            "busy.tif",
            NetworkError,
            "127.0.0.1 answered 503 Service Unavailable.*try later",
        ),
        ("page.tif", DataError, "the server sent a web page, not a raster"),
        ("text.tif", DataError, "GDAL cannot read the scene"),
        ("empty.tif", DataError, "the file is empty"),
    ],
)
def test_faults_of_a_web_server(server, folder, name, error, message):
    (folder / "page.tif").write_text("\n<!DOCTYPE HTML><html>Log in</html>")
    (folder / "text.tif").write_text("no raster")
    (folder / "empty.tif").touch()
    server.statuses["busy.tif"] = 503
    refused(server.url(name), message, error)


def test_servers_that_cannot_be_used(server):
    server.ranges = False
    refused(server.url("a%20b.tif"), mentions("parts of a file", "download"))
    refused(
        "http://127.0.0.1:9/a.tif",
        mentions("127.0.0.1", "Connection refused"),
        NetworkError,
    )
    refused("http://[bad/a.tif", mentions("not an address"), RequestError)


@pytest.mark.slow
def test_server_that_fails_while_the_scene_is_read(server):
    scene = open_scene(server.url("a%20b.tif"))
    server.statuses["a b.tif"] = 404
    with pytest.raises(
        NetworkError, match=mentions("127.0.0.1 answered 404", "resumes")
    ):
        read(scene, 0, 0, 300, 200)


def test_truncated_file_on_a_web_server(server, folder):
    noise = np.random.default_rng(0).integers(0, 999, (400, 400), np.uint16)
    path = folder / "cut.tif"
    rasterio.shutil.copy(
        write_geotiff(folder / "whole.tif", noise),
        path,
        driver="COG",
        compress="none",
        blocksize=128,
    )
    path.write_bytes(path.read_bytes()[:100_000])
    with pytest.raises(DataError, match="truncated or damaged"):
        read(open_scene(server.url("cut.tif")), 300, 300, 310, 310)


def test_state_changes_with_the_file_on_the_server(server, folder):
    uri = SceneUri(server.url("ü.tif"))
    before = uri.state()
    assert (
        before == uri.state()
        and before[0] == (folder / "ü.tif").stat().st_size
        and before[1].startswith('"')
    )
    write_geotiff(folder / "ü.tif", LARGE_RAMP + 1)
    assert uri.state() != before


def write_netcdf(path):
    with netcdf_file(str(path), "w") as file:
        for name, length in (("y", 30), ("x", 20)):
            file.createDimension(name, length)
        for name, value in (("VV", -10), ("VH", -20)):
            variable = file.createVariable(name, "f4", ("y", "x"))
            variable[:] = value + np.arange(600).reshape(30, 20) / 100
            variable.units = "dB"
    return path


def test_variables_of_a_netcdf_file(tmp_path):
    path = write_netcdf(tmp_path / "s.nc")
    for name in (f'NETCDF:"{path}":VH', f"NETCDF:{path}:VH"):
        scene = open_scene(name)
        assert (scene.name, scene.path.name, scene.unit, scene.bands) == (
            "s_VH",
            "s.nc:VH",
            "db",
            ("VH",),
        )
        # the first one of a file without coordinates
        bottom_row = read(scene, 29, 0, 30, 2)
        assert bottom_row.ravel().tolist() == [-20, np.float32(-19.99)]
    with pytest.raises(
        DataError, match=mentions("no bands", "other rasters")
    ) as caught:
        open_scene(path)
    first, second = caught.value.hint.removeprefix("give one of them: ").split(", ")
    assert (open_scene(first).bands, open_scene(second).bands) == (("VV",), ("VH",))
    refused(f"NETCDF:{path}:HH", mentions("GDAL", "scene"))
    refused(f"NETCDF:{tmp_path}/missing.nc:VV", "no such scene", RequestError)
