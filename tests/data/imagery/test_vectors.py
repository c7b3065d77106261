"""The content of a vector layer cannot make OGR read other files, or ask a server."""

import json
import os
import sqlite3
from contextlib import closing

import geopandas
import pyogrio
import pytest
import shapely

from rsft.data.imagery.vectors import open_vector
from rsft.errors import RequestError
from tests.helpers.file_server import serving_folder
from tests.helpers.messages import mentions

POINT = {"type": "Feature", "properties": {"a": 1}, "geometry": {"type": "Point", "coordinates": [1, 2]}}


def collection(**members):
    """Return GeoJSON with one point."""
    return {"type": "FeatureCollection", "features": [POINT]} | members


@pytest.fixture
def layer():
    return geopandas.GeoDataFrame({"a": [1]}, geometry=shapely.points([[1.0, 2.0]]), crs=4326)


@pytest.mark.parametrize("name", ["a.gpkg", "a.geojson", "a.fgb", "a.shp", "a.sqlite"])
def test_layers_that_contain_their_features(layer, tmp_path, name):
    layer.to_file(tmp_path / name, driver="SQLite" if name == "a.sqlite" else None)
    frame = pyogrio.read_dataframe(open_vector(tmp_path / name))
    assert frame.geometry[0].coords[0] == (1, 2)
    assert frame.crs == 4326


def test_kml_without_links(tmp_path):
    mark = "<Placemark><Point><coordinates>1,2</coordinates></Point></Placemark>"
    path = tmp_path / "a.kml"
    kml = f"<kml xmlns='http://www.opengis.net/kml/2.2'><Document>{mark}</Document></kml>"
    path.write_text(f"<?xml version='1.0'?>{kml}")
    assert len(pyogrio.read_dataframe(open_vector(path))) == 1
    path.write_text("<kml><Document><NetworkLink><Link><href>x.kml</href></Link></NetworkLink></Document></kml>")
    with pytest.raises(RequestError, match=mentions("other files")):
        open_vector(path)


@pytest.mark.parametrize("name", ["x.gpkg", "x.geojson", "x.json", "x.kml", "x.shp"])
def test_content_cannot_name_a_server(tmp_path, name):
    with serving_folder(tmp_path) as server:
        address = server.url("s.gpkg")
        source = f"<SrcDataSource>/vsicurl/{address}</SrcDataSource>"
        steps = f"gdal vector pipeline ! read /vsicurl/{address} ! write streamed_dataset"
        crs = {"type": "link", "properties": {"href": address}}
        nested = POINT | {"geometry": {"type": "Point", "coordinates": [1, 2], "CRS": crs | {"type": "URL"}}}
        for content in (
            f"<OGRVRTDataSource><OGRVRTLayer name='x'>{source}</OGRVRTLayer></OGRVRTDataSource>",
            f"<kml><!-- <OGRVRTDataSource> --><NetworkLink><href>{address}</href></NetworkLink></kml>",
            f"<ogr:FeatureCollection xmlns:ogr='a' schemaLocation='http://x {address}'/>",
            f"<OGRWFSDataSource><URL>{address}</URL></OGRWFSDataSource>",
            json.dumps({"type": "gdal_streamed_alg", "command_line": steps}),
            json.dumps(collection(crs=crs)),
            json.dumps(collection(features=[nested])),
            '{"crs": ' + json.dumps(crs) + ", " + json.dumps(collection(crs=None))[1:],
            '!table\n!version 300\nDefinition Table\n File "/etc/passwd"',
            "a" * 100,
            "",
        ):
            (tmp_path / name).write_text(content)
            try:
                pyogrio.read_dataframe(open_vector(tmp_path / name))
            except RequestError as error:
                assert "cannot be read" in error.message
        assert server.requests == []


def test_keys_are_read_once(tmp_path):
    path = tmp_path / "a.geojson"
    path.write_text('{"type": "gdal_streamed_alg", "command_line": "x", ' + json.dumps(collection())[1:])
    data = open_vector(path)
    assert isinstance(data, bytes) and b"gdal_streamed_alg" not in data
    assert len(pyogrio.read_dataframe(data)) == 1
    path.write_text("[" * 5000)
    with pytest.raises(RequestError, match="not one of those"):
        open_vector(path)
    path.write_text('{"a":' * 100_000)
    with pytest.raises(RequestError, match="more than 100 levels"):
        open_vector(path)


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE VIEW v AS SELECT gdal_get_pixel_value('/etc/passwd', 1, 'pixel', 0, 0) AS x",
        "CREATE VIEW v AS SELECT ogr_geocode('x') AS x",
        "CREATE TRIGGER t AFTER INSERT ON a BEGIN SELECT load_extension('/tmp/x.so'); END",
    ],
)
def test_views_that_read_files(layer, tmp_path, statement):
    path = tmp_path / "a.gpkg"
    layer.to_file(path)
    with closing(sqlite3.connect(path)) as database:
        database.execute(statement)
    with pytest.raises(RequestError, match="can read other files"):
        open_vector(path)


def test_virtual_tables_that_read_files(layer, tmp_path):
    path = tmp_path / "a.gpkg"
    layer.to_file(path)
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA writable_schema = ON")
        row = ("table", "v", "v", 0, "CREATE VIRTUAL TABLE v\nUSING VirtualText('/etc/passwd')")
        database.execute("INSERT INTO sqlite_master VALUES (?, ?, ?, ?, ?)", row)
        database.commit()
    with pytest.raises(RequestError, match="can read other files"):
        open_vector(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes in folders")
def test_pipes_are_refused(tmp_path):
    os.mkfifo(tmp_path / "a.gpkg")
    with pytest.raises(RequestError, match=mentions("pipe", "device")):
        open_vector(tmp_path / "a.gpkg")
