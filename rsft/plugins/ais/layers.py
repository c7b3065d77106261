"""Write the match of AIS messages to a scene as a GeoPackage with one layer per outcome, and styles for QGIS."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pandas as pd
import pyogrio
import shapely
from geopandas import GeoDataFrame, points_from_xy

from rsft.data.chips.sidecars import render_thumbnail
from rsft.inference.review.page import write_review_page
from rsft.inference.writers.geopackage import add_geopackage_tables
from rsft.inference.writers.layer import PredictionLayer
from rsft.inference.writers.styles import class_colors, render_template
from rsft.inference.writers.tables import check_output_file
from rsft.plugins.ais.choices import NO_SHIP
from rsft.plugins.ais.job import (
    AMBIGUOUS,
    MATCHED,
    NO_AIS,
    NO_DETECTION,
    AisMatch,
)
from rsft.scenes.detection import ship_window
from rsft.scenes.locations import cut_chip
from rsft.scenes.reader import SceneReader
from rsft.types import LONLAT
from rsft.utils.atomic_files import atomic_file
from rsft.version import __version__

_COLORS = {NO_AIS: "#d55e00", AMBIGUOUS: "#f0e442", NO_DETECTION: "#8c8c8c"}
_SHIFT_COLOR = "#0072b2"
_LEAST_SHIFT = 1.0  # meter; a shorter arrow shows nothing


class _Layer(NamedTuple):
    """A layer with the column that selects the symbol, the shape of its markers and the expression of its labels."""

    name: str
    frame: GeoDataFrame
    column: str
    marker: str
    text: str


def write_match(
    match: AisMatch, path: Path, metadata: dict[str, Any], *, overwrite: bool = False
) -> None:
    """Write a match: the layers matched, no_ais, ais_without_detection, ambiguous and shift, and a table of metadata.

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
        layers = _layers(match)
        for layer in layers:
            kind = "LineString" if layer.name == "shift" else "Point"
            pyogrio.write_dataframe(
                layer.frame, temporary, layer.name, "GPKG", geometry_type=kind
            )
        add_geopackage_tables(
            temporary, metadata, [(match_style(x), None, x.name) for x in layers]
        )


def _layers(match: AisMatch) -> list[_Layer]:
    objects = match.objects
    ships = match.ships
    places = GeoDataFrame(
        objects, geometry=points_from_xy(objects["lon"], objects["lat"]), crs=LONLAT
    )
    lost = ships[ships["status"] == NO_DETECTION]
    lost = GeoDataFrame(
        lost, geometry=points_from_xy(lost["radar_lon"], lost["radar_lat"]), crs=LONLAT
    )
    moved = ships[ships["shift_m"].abs() >= _LEAST_SHIFT]
    lines = shapely.linestrings(
        moved[["lon", "lat", "radar_lon", "radar_lat"]].to_numpy().reshape(-1, 2, 2)
    )
    own = [
        name
        for name in objects
        if name in ("object", "row", "col", "lon", "lat", "length_m", "heading_deg")
    ]
    name = 'coalesce("ship_name", "mmsi")'
    unmatched = places[objects["status"] == NO_AIS][
        [*own, "status", "reason", "geometry"]
    ]
    return [
        _Layer(
            "matched", places[objects["status"] == MATCHED], "ais_class", "circle", name
        ),
        _Layer("no_ais", unmatched, "status", "square", '"object"'),
        _Layer("ais_without_detection", lost, "status", "cross2", name),
        _Layer(
            "ambiguous",
            places[objects["status"] == AMBIGUOUS],
            "status",
            "diamond",
            '"candidates"',
        ),
        _Layer(
            "shift", GeoDataFrame(moved, geometry=lines, crs=LONLAT), "'shift'", "", ""
        ),
    ]


def match_style(layer: _Layer) -> str:
    """Return the QGIS style of a layer: matched ships by class, one symbol in the others, arrows for the shifts."""
    colors = {
        name: color
        for name, color in _COLORS.items()
        if name in set(layer.frame["status"])
    }
    if layer.column == "ais_class":
        colors = class_colors(sorted(layer.frame["ais_class"].unique()))
    elif layer.name == "shift":
        colors = {"shift": _SHIFT_COLOR}
    values = {
        "column": layer.column,
        "marker": layer.marker,
        "text": layer.text,
        "is_line": layer.name == "shift",
    }
    return render_template(
        "rsft.plugins.ais", "ais.qml", colors=colors, **values
    ).strip()


def write_choice_page(match: AisMatch, path: Path, command: str) -> bool:
    """Write the review page of the ambiguous objects; the classes of each one are its possible ships, and no ship.

    Args:
        match: the match of a scene.
        path: the page.
        command: command that takes the saved choices.

    Returns:
        Whether there is a page; no object may be ambiguous.
    """
    objects = match.objects[match.objects["status"] == AMBIGUOUS]
    scene = match.scene
    if objects.empty or scene is None:
        return False
    pairs = match.candidates[
        match.candidates["object"].isin(objects.index)
    ].reset_index(drop=True)
    texts = pairs[["mmsi", "ais_class", "ais_length_m", "ship_name"]].astype(object)
    texts["ais_length_m"] = texts["ais_length_m"].map(
        "{:.0f} m".format, na_action="ignore"
    )
    pairs["ship"] = [
        " ".join(str(text) for text in row if not pd.isna(text))
        for row in texts.itertuples(index=False)
    ]
    odds = pairs.assign(odds=np.exp(pairs["score"])).pivot(
        index="object", columns="ship", values="odds"
    )
    odds[NO_SHIP] = 1.0  # the score compares with any other object
    shares = odds.div(odds.sum(axis=1), axis=0)
    table = objects.rename(columns={"object": "chip"})[
        ["chip", "row", "col", "lon", "lat", "reason", "candidates"]
    ]
    table = table.assign(
        scene=scene.path.name,
        path=str(scene.path),
        at=None,
        probability=shares.max(axis=1),
    )
    table["class"] = shares.idxmax(axis=1)
    table["length in the image, m"] = objects["length_m"].round()
    metadata = {
        "recipe": "match of AIS messages",
        "bundle_sha256": "",
        "rsft_version": __version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "notes": match.notes,
        "request": {"chips_dir": None},
    }
    layer = PredictionLayer(
        table.join(shares.add_prefix("p_")), LONLAT, tuple(map(str, shares)), metadata
    )
    with closing(SceneReader(scene)) as reader:
        chips = [
            cut_chip(reader, ship_window(scene), match.locations[number]).pixels
            for number in objects.index
        ]
    thumbnails = [
        bytes(cv2.imencode(".jpg", render_thumbnail(chip))[1]) for chip in chips
    ]
    write_review_page(path, layer, thumbnails, [scene], None, "", path, command=command)
    return True
