"""Vector layers of a stranger that name a secret or a server."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import geopandas
import shapely

from tests.security.carriers import LAYERS, Carrier, Place, carrier, texts

texts(
    LAYERS,
    ogr_vrt=(
        "a.gpkg",
        lambda place: (
            "<OGRVRTDataSource><OGRVRTLayer"
            f" name='s'><SrcDataSource>{place.layer}</SrcDataSource>"
            "</OGRVRTLayer></OGRVRTDataSource>"
        ),
    ),
    ogr_vrt_of_a_server=(
        "a.kml",
        lambda place: (
            "<OGRVRTDataSource><OGRVRTLayer"
            f" name='s'><SrcDataSource>/vsicurl/{place.url}</SrcDataSource>"
            "</OGRVRTLayer></OGRVRTDataSource>"
        ),
    ),
    gml=(
        "a.gpkg",
        lambda place: (
            "<ogr:FeatureCollection xmlns:ogr='http://ogr.maptools.org/'"
            " xmlns:gml='http://www.opengis.net/gml'"
            " xmlns:xsi='http://www.w3.org/2001/XMLSchema-instance'"
            " xsi:schemaLocation='http://ogr.maptools.org/"
            f" {place.url}'><gml:featureMember/></ogr:FeatureCollection>"
        ),
    ),
    kml_link=(
        "a.kml",
        lambda place: (
            "<kml xmlns='http://www.opengis.net/kml/2.2'><Document><NetworkLink><Link>"
            f"<href>{place.url}</href></Link></NetworkLink></Document></kml>"
        ),
    ),
    kml_entity=(
        "a.kml",
        lambda place: (
            "<!DOCTYPE kml [<!ENTITY s SYSTEM"
            f" 'file://{place.secret}'>]><kml><Document><Placemark>"
            "<name>&s;</name><Point><coordinates>1,2</coordinates></Point></Placemark></Document></kml>"
        ),
    ),
    wfs=(
        "a.kml",
        lambda place: f"<OGRWFSDataSource><URL>{place.url}</URL></OGRWFSDataSource>",
    ),
    pipeline=(
        "a.geojson",
        lambda place: json.dumps(
            {
                "type": "gdal_streamed_alg",
                "command_line": f"gdal vector pipeline ! read {place.layer} ! write x",
            }
        ),
    ),
    map_info=(
        "a.shp",
        lambda place: (
            f'!table\n!version 300\nDefinition Table\n File "{place.layer}"\n'
        ),
    ),
    crs_of_a_server=(
        "a.geojson",
        lambda place: json.dumps(
            {
                "type": "FeatureCollection",
                "crs": {
                    "type": "link",
                    "properties": {"href": place.url, "type": "proj4"},
                },
                "features": [],
            }
        ),
    ),
    crs_of_a_server_in_another_suffix=(
        "a.gpkg",
        lambda place: json.dumps(
            {
                "type": "FeatureCollection",
                "crs": {"type": "url", "properties": {"url": place.url}},
                "features": [],
            }
        ),
    ),
)


def geopackage(kind: str, text: str, in_contents: bool = True) -> Carrier:
    """Return a GeoPackage with a view, a trigger or a virtual table."""

    def build(place: Place) -> Path:
        path = place.folder / "a.gpkg"
        geopandas.GeoDataFrame(
            {"note": ["a"]}, geometry=shapely.points([[30.0, 30.0]])
        ).to_file(path, layer="b")
        with closing(sqlite3.connect(path)) as database:
            database.execute("PRAGMA writable_schema = ON")
            names = {
                "secret": place.secret,
                "image": place.image,
                "layer": place.layer,
                "url": place.url,
            }
            row = (
                kind,
                "v",
                "b" if kind == "trigger" else "v",
                0,
                f"CREATE {text.format(**names)}",
            )
            database.execute("INSERT INTO sqlite_master VALUES (?, ?, ?, ?, ?)", row)
            if in_contents:
                columns = "table_name, data_type, identifier, srs_id"
                database.execute(
                    f"INSERT INTO gpkg_contents ({columns}) VALUES ('v', 'features',"
                    " 'v', -1)"
                )
                database.execute(
                    "INSERT INTO gpkg_geometry_columns VALUES ('v', 'geom', 'POINT',"
                    " -1, 0, 0)"
                )
                database.execute("DELETE FROM gpkg_contents WHERE table_name = 'b'")
            database.commit()
        return path

    return build


_SELECT = "VIEW v AS SELECT fid, geom, {} AS note FROM b"
LAYERS |= {
    "view_of_a_raster": geopackage(
        "view",
        _SELECT.format(
            "gdal_get_pixel_value('{image}', 1, 'pixel', 3, 3) || 'TOP' || 'SECRET'"
        ),
    ),
    "view_of_a_file": geopackage("view", _SELECT.format("readfile('{secret}')")),
    "view_of_a_server": geopackage("view", _SELECT.format("ogr_geocode('{url}')")),
    "view_with_an_extension": geopackage(
        "view", _SELECT.format("load_extension('{secret}')")
    ),
    "trigger": geopackage(
        "trigger",
        "TRIGGER v AFTER INSERT ON b BEGIN SELECT load_extension('{secret}'); END",
        in_contents=False,
    ),
    "virtual_layer": geopackage("table", "VIRTUAL TABLE v USING VirtualOGR('{layer}')"),
    "virtual_text": geopackage(
        "table", "VIRTUAL TABLE v USING VirtualText('{secret}', 'UTF-8', 0, ',', '.')"
    ),
}


@carrier(LAYERS)
def projection_of_a_server(place: Place) -> Path:
    geopandas.GeoDataFrame({"a": [1]}, geometry=shapely.points([[30.0, 30.0]])).to_file(
        place.folder / "a.shp"
    )
    place.write("a.prj", place.url)
    return place.folder / "a.shp"
