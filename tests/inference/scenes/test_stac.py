"""STAC items: choice of assets, addresses, and what the item says about the pixels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rsft.data.imagery.products.options import ProductOptions
from rsft.errors import DataError, NetworkError, RequestError
from rsft.inference.scenes.raster import PixelWindow, SceneReader, gdal_environment, open_scene
from tests.helpers.file_server import serving_folder
from tests.helpers.messages import mentions
from tests.helpers.scenes import UTM, write_geotiff

STORED = np.arange(20 * 30, dtype=np.int16).reshape(20, 30) - 2500
TIFF = "image/tiff; application=geotiff; profile=cloud-optimized"
GAMMA0 = {"unit": "gamma0", "scale": 0.5, "offset": 2000, "nodata": -2500, "spatial_resolution": 10}


def asset(href: str, **content: Any) -> dict[str, Any]:
    return {"href": href, "type": TIFF, "roles": ["data"]} | content


def write_item(path: Path, assets: dict[str, Any], **properties: Any) -> Path:
    item = {"type": "Feature", "stac_version": "1.0.0", "id": path.stem, "properties": properties, "assets": assets}
    path.write_text(json.dumps(item))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("vv", "vh", "a b ü"):
        write_geotiff(tmp_path / f"{name}.tif", STORED + (name == "vh"), crs="EPSG:32633", transform=UTM)
    return tmp_path


def corner(name: str | Path, **options: Any) -> list[float]:
    """Return the first two pixels of a scene."""
    reader = SceneReader(open_scene(name, ProductOptions(**options)))
    pixels = reader(PixelWindow(0, 0, 1, 2)).ravel().tolist()
    reader.close()
    return pixels


def test_item_declares_unit_scale_nodata_and_names(folder: Path) -> None:
    path = write_item(folder / "S1A_x.json", {"vv": asset("./vv.tif", **{"raster:bands": [GAMMA0]})})
    scene = open_scene(path)
    assert (scene.name, scene.unit, scene.bands, scene.dtype) == ("S1A_x", "gamma0", ("VV",), "float32")
    assert str(scene.path) == str(path) and scene.files == (str(folder / "vv.tif"),)
    assert scene.spacing == pytest.approx((10, 10), rel=1e-3)
    np.testing.assert_array_equal(corner(path), [np.nan, 2000 - 2499 / 2])


def test_item_of_version_1_1(folder: Path) -> None:
    band = {"name": "HH", "unit": "dB", "nodata": "nan", "raster:scale": 0.01, "raster:spatial_resolution": 20}
    path = write_item(folder / "i.json", {"data": asset("vv.tif", bands=[band])})
    scene = open_scene(path)
    assert (scene.unit, scene.bands) == ("db", ("HH",)) and np.isnan(scene.nodata[0])
    assert corner(path) == pytest.approx([-25, -24.99])
    write_item(path, {"data": asset("vv.tif", nodata=-2499, **{"raster:scale": 2, "bands": [{"name": "HV"}]})})
    np.testing.assert_array_equal(corner(path), [-5000, np.nan])


def test_spacing_of_a_file_without_georeference(folder: Path) -> None:
    write_geotiff(folder / "plain.tif", STORED)
    path = write_item(folder / "i.json", {"vv": asset("plain.tif", **{"raster:bands": [{"spatial_resolution": 2.5}]})})
    assert open_scene(path).spacing == (2.5, 2.5)


def test_polarizations_become_bands(folder: Path) -> None:
    assets = {
        "vh": asset("vh.tif"),
        "vv": asset("vv.tif"),
        "look": asset("vv.png", type="image/png", roles=["overview"]),
    }
    path = write_item(folder / "i.json", assets)
    scene = open_scene(path)
    assert (scene.bands, scene.assets) == (("VH", "VV"), ("vh", "vv")) and corner(path) == [-2499, -2500, -2498, -2499]
    assert open_scene(path, ProductOptions(asset="vv")).bands == ("VV",)
    assert open_scene(path, ProductOptions(asset="vv, vh")).bands == ("VV", "VH")
    path = write_item(folder / "j.json", {"data": asset("vv.tif")}, **{"sar:polarizations": ["HV"]})
    assert open_scene(path).bands is None  # the item does not describe the band
    path = write_item(folder / "k.json", {"data": asset("vv.tif", **{"sar:polarizations": ["HV"]})})
    assert open_scene(path).bands == ("HV",)
    path = write_item(folder / "l.json", {"data": asset("vv.tif", **{"eo:bands": [{"common_name": "red"}]})})
    assert open_scene(path).bands == ("R",)


@pytest.mark.parametrize("href", ["a b ü.tif", "./a%20b%20%C3%BC.tif"])
def test_addresses_with_spaces(folder: Path, monkeypatch: pytest.MonkeyPatch, href: str) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    path = write_item(folder / "i j.json", {"vv": asset(href)})
    assert corner(path) == [-2500, -2499]
    (folder / "item").write_bytes(path.read_bytes())  # addresses of a STAC API have no suffix
    with serving_folder(folder) as server, gdal_environment():
        for name in ("i%20j.json", "i j.json", "item"):
            assert corner(server.url(name)) == [-2500, -2499]
        write_item(path, {"vv": asset(server.url("a b ü.tif"))})
        assert corner(path) == [-2500, -2499]


def test_item_on_a_server(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    write_item(folder / "i.json", {"vv": asset("missing.tif")})
    write_item(folder / "j.json", {"vv": asset("file:///etc/passwd")})
    with serving_folder(folder) as server, gdal_environment():
        with pytest.raises(NetworkError, match=r"answered 404 Not Found.*missing.tif"):
            open_scene(server.url("i.json"))
        with pytest.raises(DataError, match=mentions("not on a server")):
            open_scene(server.url("j.json"))
        with pytest.raises(NetworkError, match=r"answered 404 Not Found.*k.json"):
            open_scene(server.url("k.json"))


@pytest.mark.parametrize(
    ("assets", "chosen", "error", "message"),
    [
        ({}, None, DataError, "no asset of the item has the role data.*--asset: none"),
        ({"x": asset("vv.tif", roles=None)}, None, DataError, "no asset of the item has the role data.*--asset: x"),
        ({"vv": asset("vv.tif")}, "hh", RequestError, "the item has no asset hh.*its assets are vv"),
        ({"a": asset("vv.tif"), "b": asset("vh.tif")}, None, RequestError, "2 data assets: a, b.*--asset NAME"),
        ({"vv": asset("vv.xml", type="application/xml")}, None, DataError, "asset vv is application/xml, not a raster"),
        ({"vv": {"roles": ["data"]}}, None, DataError, "the asset vv has no href"),
        ({"vv": asset("none.tif")}, None, DataError, "no such scene.*none.tif"),
        ({"vv": asset("vv.tif", bands=[{}, {}])}, None, DataError, "describes 2 bands, but the asset has 1"),
        ({"vv": asset("vv.tif"), "hh": asset("big.tif")}, None, DataError, "the assets vv, hh differ in size"),
    ],
)
def test_items_that_are_no_scene(folder: Path, assets: dict, chosen: str | None, error: type, message: str) -> None:
    write_geotiff(folder / "big.tif", np.zeros((40, 40), np.int16))
    with pytest.raises(error, match=message):
        open_scene(write_item(folder / "i.json", assets), ProductOptions(asset=chosen))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "the JSON cannot be read"),
        ("[]", "the JSON is something else, not a STAC item"),
        ('{"type": "FeatureCollection"}', "the JSON is FeatureCollection, not a STAC item.*one item"),
        ('{"type": "Feature", "geometry": null}', "the JSON is Feature, not a STAC item"),
    ],
)
def test_other_json(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "i.json").write_text(content)
    with pytest.raises(DataError, match=message):
        open_scene(tmp_path / "i.json")


def test_file_and_item_contradict_each_other(folder: Path) -> None:
    import rasterio

    with rasterio.open(folder / "vv.tif", "r+") as file:
        file.scales = (0.1,)
    path = write_item(folder / "i.json", {"vv": asset("vv.tif", **{"raster:bands": [{"scale": 0.5}]})})
    with pytest.raises(DataError, match=mentions("scale 0.5 and offset 0", "0.1 and 0")):
        open_scene(path)


def test_asset_without_an_item(folder: Path) -> None:
    with pytest.raises(RequestError, match=mentions("--asset", "STAC")):
        open_scene(folder / "vv.tif", ProductOptions(asset="vv"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"raster:bands": [3]}, "raster:bands of vv is not a list of objects"),
        ({"bands": {"a": 1}}, "bands of vv is not a list of objects"),
        ({"roles": 3}, "roles of vv is not a list of texts"),
        ({"sar:polarizations": [None]}, "sar:polarizations of vv is not a list of texts"),
    ],
)
def test_values_of_another_type(folder: Path, content: dict[str, Any], message: str) -> None:
    path = write_item(folder / "i.json", {"vv": asset("vv.tif", **content)})
    with pytest.raises(DataError, match=message):
        open_scene(path)
