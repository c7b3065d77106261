"""Read windows of scenes: files, archives, web servers, subdatasets and STAC items; and
what goes wrong there."""

import json
import os
import zipfile

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from scipy.io import netcdf_file

from rsft.data.imagery.products.options import ProductOptions
from rsft.data.imagery.scene_uri import SceneUri
from rsft.errors import DataError, NetworkError, RequestError
from rsft.scenes.raster import (
    PixelWindow,
    SceneReader,
    gdal_environment,
    open_scene,
)
from tests.helpers.file_server import serving_folder
from tests.helpers.messages import mentions
from tests.helpers.scenes import UTM, add_mask, ground_control_points, write_geotiff

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
    ("content", "message"), [(b"text", "GDAL cannot read"), (None, "no such scene")]
)
def test_no_scene(tmp_path, content, message):
    if content:
        (tmp_path / "x.tif").write_bytes(content)
    refused(tmp_path / "x.tif", message)


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
    path = write_geotiff(
        tmp_path / "s.tif", pixels, compress="deflate"
    )  # the directory of the file is at its end
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


LARGE_RAMP = np.arange(300 * 200, dtype=np.uint16).reshape(300, 200) + 1
TILES = {"tiled": True, "blockxsize": 64, "blockysize": 64}


@pytest.fixture
def folder(tmp_path):
    write_geotiff(
        tmp_path / "a b.tif", LARGE_RAMP, crs="EPSG:32633", transform=UTM, **TILES
    )
    write_geotiff(tmp_path / "ü.tif", LARGE_RAMP)
    return tmp_path


@pytest.fixture
def server(folder, monkeypatch):
    monkeypatch.setattr("rsft.utils.remote_files._PAUSE", 0)
    with serving_folder(folder) as server, gdal_environment():
        yield server


def is_large_ramp(name):
    """Return whether four pixels of a scene are those of the large ramp."""
    return (
        read(open_scene(name), 10, 20, 12, 22)[:, :, 0] == LARGE_RAMP[10:12, 20:22]
    ).all()


def archive(path, *members):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("readme.txt", "text")
        for member in members:
            file.write(member, f"in/{member.name}")
    return path


def test_archive_with_one_raster(folder):
    path = archive(folder / "z.zip", folder / "a b.tif")
    assert is_large_ramp(path) and is_large_ramp(f"/vsizip/{path}/in/a b.tif")
    assert (open_scene(path).name, open_scene(f"/vsizip/{path}/in/a b.tif").name) == (
        "z",
        "a_b",
    )


def test_archives_that_are_no_scene(folder):
    with pytest.raises(RequestError, match="contains 2 rasters") as caught:
        open_scene(archive(folder / "two.zip", folder / "a b.tif", folder / "ü.tif"))
    assert f"/vsizip/{{{folder}/two.zip}}/in/ü.tif" in caught.value.hint
    refused(archive(folder / "none.zip"), "contains no raster")
    (folder / "cut.zip").write_bytes((folder / "two.zip").read_bytes()[:999])
    refused(folder / "cut.zip", mentions("archive", "cannot be read"))
    refused(f"/vsizip/{folder}/two.zip/in/missing.tif", mentions("GDAL", "scene"))
    refused(f"/vsizip/{folder}/missing.zip/in/a.tif", "no such scene")


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
    assert {request.split(" ", 1)[1] for request in server.requests} == {
        scene.path.name
    }  # no search for other files


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
        bottom_row = read(
            scene, 29, 0, 30, 2
        )  # the first one of a file without coordinates
        assert bottom_row.ravel().tolist() == [-20, np.float32(-19.99)]
    with pytest.raises(
        DataError, match=mentions("no bands", "other rasters")
    ) as caught:
        open_scene(path)
    first, second = caught.value.hint.removeprefix("give one of them: ").split(", ")
    assert (open_scene(first).bands, open_scene(second).bands) == (("VV",), ("VH",))
    refused(f"NETCDF:{path}:HH", mentions("GDAL", "scene"))
    refused(f"NETCDF:{tmp_path}/missing.nc:VV", "no such scene")


STORED = np.arange(20 * 30, dtype=np.int16).reshape(20, 30) - 2500
TIFF = "image/tiff; application=geotiff; profile=cloud-optimized"
GAMMA0 = {
    "unit": "gamma0",
    "scale": 0.5,
    "offset": 2000,
    "nodata": -2500,
    "spatial_resolution": 10,
}


def asset(href, **content):
    return {"href": href, "type": TIFF, "roles": ["data"]} | content


def write_item(path, assets, **properties):
    item = {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": path.stem,
        "properties": properties,
        "assets": assets,
    }
    path.write_text(json.dumps(item))
    return path


@pytest.fixture
def tiffs(tmp_path):
    for name in ("vv", "vh", "a b ü"):
        write_geotiff(
            tmp_path / f"{name}.tif",
            STORED + (name == "vh"),
            crs="EPSG:32633",
            transform=UTM,
        )
    return tmp_path


def corner(name, **options):
    """Return the first two pixels of a scene."""
    return (
        read(open_scene(name, ProductOptions(**options)), 0, 0, 1, 2).ravel().tolist()
    )


def test_item_declares_unit_scale_nodata_and_names(tiffs):
    path = write_item(
        tiffs / "S1A_x.json", {"vv": asset("./vv.tif", **{"raster:bands": [GAMMA0]})}
    )
    scene = open_scene(path)
    assert (scene.name, scene.unit, scene.bands, scene.dtype) == (
        "S1A_x",
        "gamma0",
        ("VV",),
        "float32",
    )
    assert str(scene.path) == str(path) and scene.files == (str(tiffs / "vv.tif"),)
    assert scene.spacing == pytest.approx((10, 10), rel=1e-3)
    np.testing.assert_array_equal(corner(path), [np.nan, 2000 - 2499 / 2])


def test_item_of_version_1_1(tiffs):
    band = {
        "name": "HH",
        "unit": "dB",
        "nodata": "nan",
        "raster:scale": 0.01,
        "raster:spatial_resolution": 20,
    }
    path = write_item(tiffs / "i.json", {"data": asset("vv.tif", bands=[band])})
    scene = open_scene(path)
    assert (scene.unit, scene.bands) == ("db", ("HH",)) and np.isnan(scene.nodata[0])
    assert corner(path) == pytest.approx([-25, -24.99])
    write_item(
        path,
        {
            "data": asset(
                "vv.tif", nodata=-2499, **{"raster:scale": 2, "bands": [{"name": "HV"}]}
            )
        },
    )
    np.testing.assert_array_equal(corner(path), [-5000, np.nan])


def test_spacing_of_a_file_without_georeference(tiffs):
    write_geotiff(tiffs / "plain.tif", STORED)
    path = write_item(
        tiffs / "i.json",
        {"vv": asset("plain.tif", **{"raster:bands": [{"spatial_resolution": 2.5}]})},
    )
    assert open_scene(path).spacing == (2.5, 2.5)


def test_polarizations_become_bands(tiffs):
    assets = {"vh": asset("vh.tif"), "vv": asset("vv.tif")}
    assets["look"] = asset("vv.png", type="image/png", roles=["overview"])
    path = write_item(tiffs / "i.json", assets)
    scene = open_scene(path)
    assert (scene.bands, scene.assets) == (("VH", "VV"), ("vh", "vv")) and corner(
        path
    ) == [-2499, -2500, -2498, -2499]
    assert open_scene(path, ProductOptions(asset="vv")).bands == ("VV",)
    assert open_scene(path, ProductOptions(asset="vv, vh")).bands == ("VV", "VH")
    path = write_item(
        tiffs / "j.json", {"data": asset("vv.tif")}, **{"sar:polarizations": ["HV"]}
    )
    assert open_scene(path).bands is None  # the item does not describe the band
    path = write_item(
        tiffs / "k.json", {"data": asset("vv.tif", **{"sar:polarizations": ["HV"]})}
    )
    assert open_scene(path).bands == ("HV",)
    path = write_item(
        tiffs / "l.json",
        {"data": asset("vv.tif", **{"eo:bands": [{"common_name": "red"}]})},
    )
    assert open_scene(path).bands == ("R",)


@pytest.mark.parametrize("href", ["a b ü.tif", "./a%20b%20%C3%BC.tif"])
def test_addresses_with_spaces(tiffs, server, href):
    path = write_item(tiffs / "i j.json", {"vv": asset(href)})
    assert corner(path) == [-2500, -2499]
    (tiffs / "item").write_bytes(
        path.read_bytes()
    )  # addresses of a STAC API have no suffix
    for name in ("i%20j.json", "i j.json", "item"):
        assert corner(server.url(name)) == [-2500, -2499]
    write_item(path, {"vv": asset(server.url("a b ü.tif"))})
    assert corner(server.url("i j.json")) == [-2500, -2499]


def test_an_item_leads_into_no_private_network(tiffs, server):
    """The user named the item, not the host; the host of an item on a server may send
    its assets."""
    before = len(server.requests)
    for host in ("127.0.0.1", "localhost", "[::1]", "169.254.169.254", "10.0.0.1"):
        address = f"http://{host}:{server.server_port}/vv.tif"
        path = write_item(tiffs / "i.json", {"vv": asset(address)})
        refused(path, mentions("public Internet"), NetworkError)
        refused(
            write_item(path, {"vv": asset(f"/vsicurl/{address}")}),
            mentions("public Internet"),
            NetworkError,
        )
    assert len(server.requests) == before
    write_item(path, {"vv": asset(f"http://localhost:{server.server_port}/vv.tif")})
    refused(server.url("i.json"), "127.0.0.1 leads to localhost", NetworkError)


def test_item_on_a_server(tiffs, server):
    write_item(tiffs / "i.json", {"vv": asset("missing.tif")})
    write_item(tiffs / "j.json", {"vv": asset("file:///etc/passwd")})
    refused(server.url("i.json"), r"answered 404 Not Found.*missing.tif", NetworkError)
    refused(server.url("j.json"), mentions("not on a server"))
    refused(server.url("k.json"), r"answered 404 Not Found.*k.json", NetworkError)


@pytest.mark.parametrize(
    ("assets", "chosen", "error", "message"),
    [
        ({}, None, DataError, "no asset of the item has the role data.*--asset: none"),
        (
            {"x": asset("vv.tif", roles=None)},
            None,
            DataError,
            "no asset of the item has the role data.*--asset: x",
        ),
        (
            {"vv": asset("vv.tif")},
            "hh",
            RequestError,
            "the item has no asset hh.*its assets are vv",
        ),
        (
            {"a": asset("vv.tif"), "b": asset("vh.tif")},
            None,
            RequestError,
            "2 data assets: a, b.*--asset NAME",
        ),
        (
            {"vv": asset("vv.xml", type="application/xml")},
            None,
            DataError,
            "asset vv is application/xml, not a raster",
        ),
        ({"vv": {"roles": ["data"]}}, None, DataError, "the asset vv has no href"),
        (
            {"vv": {"href": "\ud800.tif", "roles": ["data"]}},
            None,
            DataError,
            "the JSON cannot be read",
        ),
        (
            {"vv": asset("none.tif")},
            None,
            DataError,
            "vv does not exist.*none.tif.*i.json",
        ),
        (
            {"vv": asset("vv.tif", bands=[{}, {}])},
            None,
            DataError,
            "describes 2 bands, but the asset has 1",
        ),
        (
            {"vv": asset("vv.tif"), "hh": asset("big.tif")},
            None,
            DataError,
            "the assets vv, hh differ in size",
        ),
        (
            {"vv": {"raster:bands": [3]}},
            None,
            DataError,
            "raster:bands of vv is not a list of objects",
        ),
        (
            {"vv": {"bands": {"a": 1}}},
            None,
            DataError,
            "bands of vv is not a list of objects",
        ),
        ({"vv": {"roles": 3}}, None, DataError, "roles of vv is not a list of texts"),
        (
            {"vv": {"sar:polarizations": [None]}},
            None,
            DataError,
            "sar:polarizations of vv is not a list of texts",
        ),
    ],
)
def test_items_that_are_no_scene(tiffs, assets, chosen, error, message):
    write_geotiff(tiffs / "big.tif", np.zeros((40, 40), np.int16))
    with pytest.raises(error, match=message):
        open_scene(write_item(tiffs / "i.json", assets), ProductOptions(asset=chosen))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "the JSON cannot be read"),
        ("[]", "the JSON is something else, not a STAC item"),
        (
            '{"type": "FeatureCollection"}',
            "the JSON is FeatureCollection, not a STAC item.*one item",
        ),
        (
            '{"type": "Feature", "geometry": null}',
            "the JSON is Feature, not a STAC item",
        ),
    ],
)
def test_other_json(tmp_path, content, message):
    (tmp_path / "i.json").write_text(content)
    refused(tmp_path / "i.json", message)


def test_file_and_item_contradict_each_other(tiffs):
    with rasterio.open(tiffs / "vv.tif", "r+") as file:
        file.scales = (0.1,)
    path = write_item(
        tiffs / "i.json", {"vv": asset("vv.tif", **{"raster:bands": [{"scale": 0.5}]})}
    )
    refused(path, mentions("scale 0.5 and offset 0", "0.1 and 0"))


def test_asset_without_an_item(tiffs):
    with pytest.raises(RequestError, match=mentions("--asset", "STAC")):
        open_scene(tiffs / "vv.tif", ProductOptions(asset="vv"))
