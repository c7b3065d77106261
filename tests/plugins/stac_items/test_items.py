"""Read STAC items as scenes, of files and of a web server; and what goes wrong there."""

import json

import numpy as np
import pytest
import rasterio

from rsft.data.imagery.products.options import ProductOptions
from rsft.errors import DataError, NetworkError, RequestError
from rsft.scenes.raster import open_scene
from tests.helpers.messages import mentions
from tests.helpers.scenes import UTM, write_geotiff
from tests.scenes.test_raster import read, refused

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
    # addresses of a STAC API have no suffix
    (tiffs / "item").write_bytes(path.read_bytes())
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
        (
            {},
            None,
            DataError,
            "no asset of the item has the role data.*asset=NAME: none",
        ),
        (
            {"x": asset("vv.tif", roles=None)},
            None,
            DataError,
            "no asset of the item has the role data.*asset=NAME: x",
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
            "2 data assets: a, b.*asset=NAME",
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
    with pytest.raises(RequestError, match=mentions("asset=", "STAC")):
        open_scene(tiffs / "vv.tif", ProductOptions(asset="vv"))
