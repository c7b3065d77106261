"""Write a match as a GeoPackage with one layer per outcome, and styles for QGIS."""

from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pyogrio
import shapely
from geopandas import GeoDataFrame, points_from_xy

from rsft.inference.writers.geopackage import add_geopackage_tables
from rsft.inference.writers.styles import class_colors
from rsft.inference.writers.tables import check_output_file
from rsft.plugins.ais.match import AMBIGUOUS, NO_AIS, NO_DETECTION, AisMatch
from rsft.scenes.locators import MATCHED
from rsft.types import LONLAT, JsonObject
from rsft.utils.atomic_files import atomic_file
from rsft.utils.templates import render_template

_OBJECT_COLUMNS = ["object", "row", "col", "lon", "lat", "length_m", "heading_deg"]
_REASON_COLUMNS = ["status", "reason", "geometry"]
_SHIP_NAME = 'coalesce("ship_name", "mmsi")'
_LEAST_SHIFT = 1.0  # meter; a shorter arrow shows nothing


class _Layer(NamedTuple):
    """A layer and its style.

    Attributes:
        name: its name.
        frame: its features.
        column: column that selects the symbol.
        colors: color of each value of the column.
        marker: shape of the markers; "" for arrows.
        text: expression of the labels.
    """

    name: str
    frame: GeoDataFrame
    column: str
    colors: dict[str, str]
    marker: str = ""
    text: str = ""


def write_match(
    match: AisMatch, path: Path, metadata: JsonObject, *, overwrite: bool = False
) -> None:
    """Write a match.

    The layers are matched, no_ais, ais_without_detection, ambiguous and shift. A table
    has the metadata.

    Args:
        match: the match.
        path: the GeoPackage.
        metadata: how the match was made.
        overwrite: whether to replace an existing file.

    Raises:
        RequestError: the suffix is another one, or the file exists.
    """
    check_output_file(path, (".gpkg",), overwrite)
    metadata = metadata | {
        "notes": match.notes,
        "left_out": match.left_out,
        "counts": match.counts,
    }
    with atomic_file(path) as temporary:
        temporary.unlink()  # SQLite needs to create the file itself
        styles = {}
        for layer in _make_layers(match):
            kind = "Point" if layer.marker else "LineString"
            pyogrio.write_dataframe(
                layer.frame, temporary, layer.name, "GPKG", geometry_type=kind
            )
            style = render_template(__package__, "ais.qml", escape=True, layer=layer)
            styles[layer.name] = style.strip()
        add_geopackage_tables(temporary, metadata, styles)


def _make_layers(match: AisMatch) -> list[_Layer]:
    objects = _add_points(match.objects, "lon", "lat")
    ships = _add_points(match.ships, "radar_lon", "radar_lat")
    status = objects["status"]
    matched = objects[status == MATCHED]
    alone = objects[status == NO_AIS]
    alone = alone[[*alone.columns.intersection(_OBJECT_COLUMNS), *_REASON_COLUMNS]]
    lost = ships[ships["status"] == NO_DETECTION]
    ambiguous = objects[status == AMBIGUOUS]
    moved = match.ships[match.ships["shift_m"].abs() >= _LEAST_SHIFT]
    ends = moved[["lon", "lat", "radar_lon", "radar_lat"]].to_numpy().reshape(-1, 2, 2)
    arrows = GeoDataFrame(moved, geometry=shapely.linestrings(ends), crs=LONLAT)
    colors = class_colors(sorted(matched["ais_class"].unique()))
    return [
        _Layer("matched", matched, "ais_class", colors, "circle", _SHIP_NAME),
        _Layer("no_ais", alone, "status", {NO_AIS: "#d55e00"}, "square", '"object"'),
        _Layer(
            "ais_without_detection",
            lost,
            "status",
            {NO_DETECTION: "#8c8c8c"},
            "cross2",
            _SHIP_NAME,
        ),
        _Layer(
            "ambiguous",
            ambiguous,
            "status",
            {AMBIGUOUS: "#f0e442"},
            "diamond",
            '"candidates"',
        ),
        _Layer("shift", arrows, "'shift'", {"shift": "#0072b2"}),
    ]


def _add_points(table: pd.DataFrame, lon: str, lat: str) -> GeoDataFrame:
    return GeoDataFrame(
        table, geometry=points_from_xy(table[lon], table[lat]), crs=LONLAT
    )
