"""The content of a vector layer cannot make OGR read other files, or ask a server."""

import json
import os
import shutil
import sqlite3
from contextlib import closing

import geopandas
import pyogrio
import pytest
import shapely

from rsft.data.imagery import vectors
from rsft.data.imagery.vectors import read_geojson, read_layer
from rsft.errors import RequestError
from tests.helpers.file_server import serving_folder
from tests.helpers.messages import mentions

POINT = {
    "type": "Feature",
    "properties": {"a": 1},
    "geometry": {"type": "Point", "coordinates": [1, 2]},
}


def collection(**members):
    """Return GeoJSON with one point."""
    return {"type": "FeatureCollection", "features": [POINT]} | members


@pytest.fixture
def layer():
    return geopandas.GeoDataFrame(
        {"a": [1]}, geometry=shapely.points([[1.0, 2.0]]), crs=4326
    )


def register(database, name="v"):
    """Let a GeoPackage have a layer of this name."""
    columns = "table_name, data_type, identifier, srs_id"
    database.execute(
        f"INSERT INTO gpkg_contents ({columns}) VALUES ('{name}', 'features', '{name}',"
        " 4326)"
    )
    database.execute(
        f"INSERT INTO gpkg_geometry_columns VALUES ('{name}', 'geom', 'POINT', 4326,"
        " 0, 0)"
    )
    database.commit()


def read(path):
    """Read the only layer of a file, as `--at` does."""
    return read_layer(path)[1]


@pytest.mark.parametrize("name", ["a.gpkg", "a.geojson", "a.fgb", "a.shp", "a.sqlite"])
def test_layers_that_contain_their_features(layer, tmp_path, name):
    layer.to_file(tmp_path / name, driver="SQLite" if name == "a.sqlite" else None)
    features = read(tmp_path / name)
    assert (features.crs, features.fields) == ("EPSG:4326", ["a"])
    assert features.table["a"].to_pylist() == [1]
    assert shapely.from_wkb(features.table[-1].to_pylist()) == [shapely.Point(1, 2)]


def test_layers_by_name(layer, tmp_path):
    path = tmp_path / "a.gpkg"
    for name in ("b", "c"):
        layer.to_file(path, layer=name)
    pyogrio.write_dataframe(
        layer.drop(columns="geometry"), path, "numbers", append=False
    )
    layers, features = read_layer(path)
    assert layers == {"b": True, "c": True, "numbers": False} and features is None
    assert read_layer(path, "d") == (layers, None)
    assert read_layer(path, "numbers")[1].table.column_names == ["fid", "a"]


def test_changes_that_are_still_in_the_log(layer, tmp_path):
    """QGIS leaves changes of an open GeoPackage in a log, which SQLite reads if it can
    write beside the file."""
    path = tmp_path / "a.gpkg"
    layer.to_file(path)
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode=WAL")
        for (name,) in database.execute(
            "SELECT name FROM sqlite_master WHERE type = 'trigger'"
        ).fetchall():
            database.execute(f'DROP TRIGGER "{name}"')
        database.execute("UPDATE a SET a = 77")
        database.commit()
        (tmp_path / "copy").mkdir()
        for name in ("a.gpkg", "a.gpkg-wal"):
            shutil.copy(tmp_path / name, tmp_path / "copy")
    before = sorted((tmp_path / "copy").iterdir())
    assert read(tmp_path / "copy/a.gpkg").table["a"].to_pylist() == [77]
    assert sorted((tmp_path / "copy").iterdir()) == before


def test_kml(tmp_path):
    mark = "<Placemark><Point><coordinates>1,2</coordinates></Point></Placemark>"
    kml = (
        f"<kml xmlns='http://www.opengis.net/kml/2.2'><Document>{mark}</Document></kml>"
    )
    (tmp_path / "a.kml").write_text(f"<?xml version='1.0'?>{kml}")
    assert read(tmp_path / "a.kml").table.num_rows == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["x.gpkg", "x.geojson", "x.kml", "x.json", "x.shp"])
def test_content_cannot_name_a_server(tmp_path, name, monkeypatch):
    # the second wall alone: without the walls of the cell
    monkeypatch.setenv("RSFT_FENCE", "off")
    with serving_folder(tmp_path) as server:
        address = server.url("s.gpkg")
        source = f"<SrcDataSource>/vsicurl/{address}</SrcDataSource>"
        steps = (
            f"gdal vector pipeline ! read /vsicurl/{address} ! write streamed_dataset"
        )
        crs = {"type": "link", "properties": {"href": address}}
        nested = POINT | {
            "geometry": {
                "type": "Point",
                "coordinates": [1, 2],
                "CRS": crs | {"type": "URL"},
            }
        }
        link = f"<NetworkLink><Link><href>{address}</href></Link></NetworkLink>"
        for content in (
            (
                "<OGRVRTDataSource><OGRVRTLayer"
                f" name='x'>{source}</OGRVRTLayer></OGRVRTDataSource>"
            ),
            (
                "<kml><!-- <OGRVRTDataSource>"
                f" --><NetworkLink><href>{address}</href></NetworkLink></kml>"
            ),
            (
                "<kml"
                f" xmlns='http://www.opengis.net/kml/2.2'><Document>{link}</Document></kml>"
            ),
            (
                f"<!DOCTYPE kml SYSTEM '{address}'><kml"
                " xmlns='http://www.opengis.net/kml/2.2'/>"
            ),
            (
                "<ogr:FeatureCollection xmlns:ogr='a' schemaLocation='http://x"
                f" {address}'/>"
            ),
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
                read_layer(tmp_path / name)
            except RequestError as error:
                assert "cannot be read" in error.message
        assert server.requests == []


def test_keys_are_read_once(tmp_path):
    path = tmp_path / "a.geojson"
    path.write_text(
        '{"type": "gdal_streamed_alg", "command_line": "x", '
        + json.dumps(collection())[1:]
    )
    assert "gdal_streamed_alg" not in str(read_geojson(path))
    assert read(path).table.num_rows == 1
    path.write_text('{"a":' * 100_000)
    with pytest.raises(RequestError, match="more than 100 levels"):
        read_geojson(path)


STATEMENTS = {
    "pixel": (
        "VIEW pixel AS SELECT 1 AS fid, NULL AS geom, gdal_get_pixel_value('{secret}',"
        " 1, 'pixel', 0, 0) AS a"
    ),
    "file": "VIEW file AS SELECT 1 AS fid, NULL AS geom, readfile('{secret}') AS a",
    "library": (
        "VIEW library AS SELECT 1 AS fid, NULL AS geom, load_extension('{secret}') AS a"
    ),
    "extent": (
        "VIEW extent AS SELECT 1 AS fid, NULL AS geom, ogr_layer_Extent('b') AS a"
    ),
    "ogr": "VIRTUAL TABLE ogr USING VirtualOGR('{secret}')",
    "text": "VIRTUAL TABLE text USING VirtualText('{secret}')",
}
REFUSED = {
    "place": "VIEW place AS SELECT 1 AS fid, NULL AS geom, ogr_geocode('x') AS a"
}
"""With such a statement, no layer of the file is read."""


@pytest.mark.slow
@pytest.mark.parametrize(
    "fence", ["off", pytest.param("on", marks=pytest.mark.exhaustive)]
)
@pytest.mark.parametrize("statements", [STATEMENTS, REFUSED], ids=["layers", "file"])
def test_views_read_no_other_files(layer, tmp_path, monkeypatch, statements, fence):
    if fence == "off":
        monkeypatch.setenv("RSFT_FENCE", "off")
    secret = tmp_path / "elsewhere/secret.gpkg"
    for path in (secret, tmp_path / "in/a.gpkg"):
        path.parent.mkdir()
        layer.assign(a="secret" if path == secret else "a").to_file(path, layer="b")
    with closing(sqlite3.connect(tmp_path / "in/a.gpkg")) as database:
        database.execute("PRAGMA writable_schema = ON")
        for name, statement in statements.items():
            kind = "view" if statement.startswith("VIEW") else "table"
            row = (kind, name, name, 0, f"CREATE {statement.format(secret=secret)}")
            database.execute("INSERT INTO sqlite_master VALUES (?, ?, ?, ?, ?)", row)
            register(database, name)
    contents = {}
    for name in (*statements, "b"):
        try:
            features = read_layer(tmp_path / "in/a.gpkg", name)[1]
        except RequestError as error:
            assert "cannot be read" in error.message
            continue
        contents[name] = features and features.table.to_pydict()
    assert "secret" not in str(contents) and ("b" in contents) == (
        statements is STATEMENTS
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            (
                "x AS a FROM (WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1"
                " FROM c) SELECT x FROM c)"
            ),
            "within 2 s",
        ),
        ("hex(zeroblob(135000000)) AS a FROM b", "more than 268,435,456 bytes"),
    ],
)
def test_views_without_end(layer, tmp_path, monkeypatch, columns, message):
    """They stop the process that reads the layer."""
    path = tmp_path / "a.gpkg"
    layer.to_file(path, layer="b")
    with closing(sqlite3.connect(path)) as database:
        database.execute(f"CREATE VIEW v AS SELECT 1 AS fid, NULL AS geom, {columns}")
        register(database)
    with monkeypatch.context() as patch, pytest.raises(RequestError, match=message):
        patch.setattr(vectors, "MAX_LAYER_SECONDS", 2 if "RECURSIVE" in columns else 60)
        read_layer(path, "v")
    assert read_layer(path, "b")[1].table.num_rows == 1


@pytest.mark.skipif(
    not hasattr(os, "mkfifo"), reason="this system has no pipes in folders"
)
def test_pipes_are_refused(tmp_path):
    os.mkfifo(tmp_path / "a.gpkg")
    with pytest.raises(RequestError, match=mentions("pipe", "device")):
        read_layer(tmp_path / "a.gpkg")


@pytest.mark.parametrize("suffix", [".dbf", ".prj", ".CPG"])
def test_a_part_of_a_layer_in_another_folder_is_not_left_out(tmp_path, suffix):
    """The attributes would be those of a private layer, or missing without a word."""
    points = shapely.points([[1.0, 2.0]])
    frame = geopandas.GeoDataFrame({"a": [1]}, geometry=points, crs="EPSG:4326")
    for folder in ("far", "in"):
        (tmp_path / folder).mkdir()
        frame.to_file(tmp_path / folder / "a.shp")
    (tmp_path / f"far/a{suffix}").touch()
    (tmp_path / f"in/a{suffix}").unlink(missing_ok=True)
    (tmp_path / f"in/a{suffix}").symlink_to(tmp_path / f"far/a{suffix}")
    with pytest.raises(RequestError, match=mentions(f"a{suffix}", "another folder")):
        read_layer(tmp_path / "in/a.shp")
    (tmp_path / "links").mkdir()
    for path in (tmp_path / "far").iterdir():  # links to all parts are honest
        (tmp_path / "links" / path.name).symlink_to(path)
    if suffix != ".CPG":
        assert read_layer(tmp_path / "links/a.shp")[1].fields == ["a"]
