"""Write a table of predictions as GeoPackage, GeoJSON, GeoParquet, CSV, Excel or labels, never an unfinished file.

A GeoPackage has a layer, its styles, and a table of metadata. Styles have one color per
class: style.qml for QGIS, style.sld for other programs.
"""

from __future__ import annotations

import colorsys
import json
import sqlite3
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple
from urllib.parse import quote

import numpy as np
import pandas as pd
import pyarrow as pa
import shapely

from rsft.data.chips.record import NOT_A_TARGET, UNSURE
from rsft.errors import RequestError
from rsft.inference.writers.pre_annotations import (
    SceneBoxes,
    coco_content,
    label_studio_content,
)
from rsft.types import LONLAT
from rsft.utils.atomic_files import atomic_file
from rsft.utils.dependencies import check_installed, require
from rsft.utils.tables import escape_table, replace_controls
from rsft.utils.untrusted.documents import load_json

LAYER_NAME = "predictions"
METADATA_TABLE = "rsft_metadata"

_CREATE_LAYER_STYLES = """
CREATE TABLE layer_styles (
    id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    f_table_catalog TEXT(256), f_table_schema TEXT(256), f_table_name TEXT(256), f_geometry_column TEXT(256),
    styleName TEXT(30), styleQML TEXT, styleSLD TEXT, useAsDefault BOOLEAN, description TEXT, owner TEXT(30),
    ui TEXT(30), update_time DATETIME DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ','now'))
)
"""  # the table that QGIS creates; programs expect an empty schema and catalog
_STYLE = """
INSERT INTO layer_styles (f_table_catalog, f_table_schema, f_table_name, f_geometry_column, styleName, styleQML,
    styleSLD, useAsDefault, description, owner)
SELECT '', '', table_name, column_name, 'classes', ?, ?, 1, 'One color per class', 'rsft' FROM gpkg_geometry_columns
WHERE table_name = ?
"""
_CSV_TYPES = {
    "b": "Integer(Boolean)",
    "i": "Integer64",
    "u": "Integer64",
    "f": "Real",
    "M": "DateTime",
}
"""GDAL's names of the types of columns, by the kind of their NumPy or pandas type."""

_REGISTER_TABLE = (
    "INSERT INTO gpkg_contents (table_name, data_type, identifier) VALUES (?,"
    " 'attributes', ?)"
)

CLASS_COLUMN = "class"
CORRECTED_COLUMN = "corrected"
"""The column that selects the color, and that of corrections by an analyst, which
replaces it."""

_SELECT_CORRECTIONS = (
    f"SELECT {CORRECTED_COLUMN} FROM {LAYER_NAME} WHERE '{CORRECTED_COLUMN}' IN "
)
_SELECT_CORRECTIONS += (  # elsewhere SQLite ignores case
    f"(SELECT name FROM pragma_table_info('{LAYER_NAME}'))"
)

UNLIKE_LABEL = "unlike the training chips"
"""Label of chips whose class should not be trusted. They are gray, and hatched if they
are polygons."""

_OUTLINE = "#202020"
_GRAY = "#8c8c8c"
_PROBABILITY_LIMITS = (0.9, 0.6, 0.0)
_DISC_MM = (4.2, 3.2, 2.4)
_OUTLINE_MM = (1.0, 0.6, 0.35)
_TILE_PERCENT = (100, 70, 40)
"""Diameters, widths and opacities for probabilities above each limit: few steps, which
readers can tell apart. Small symbols vary in size, because transparent ones lose their
hue on a dark scene. Areas vary in opacity."""

_SMALLEST_BOX_MM = 3  # a box that is smaller on the screen is drawn as a disc
_METERS_PER_DEGREE = 111_320
_MAP_WIDTH_MM = 250
# rows of a table in Parquet that are in memory once more while they are written
_ROW_GROUP = 32_768
_IS_CORRECTED = f"coalesce(\"{CORRECTED_COLUMN}\", '') NOT IN ('', '{UNSURE}')"
_QGIS_NULL = (  # stands for NULL in a list of values
    "{2839923C-8B7D-419E-B84B-CA2FE9B80EC7}"
)

_ALIASES = {
    "chip": "Chip",
    "scene": "Scene",
    "path": "File of the pixels",
    "class": "Class",
    "corrected": "Corrected class",
    "probability": "Probability (0 to 1)",
    "class_2": "Second class",
    "probability_2": "Probability of the second class (0 to 1)",
    "class_set": "Class set",
    "ood": "Unlike the training chips",
    "ood_distance": "Distance from the training chips (limit = 1)",
    "length_m": "Length (m)",
    "length_m_low": "Shortest length (m)",
    "length_m_high": "Greatest length (m)",
    "length_from": "Source of the length",
    "row": "Row (pixels)",
    "col": "Column (pixels)",
    "lon": "Longitude (°)",
    "lat": "Latitude (°)",
    "at": "Id of the position",
    "score": "Score of the detector",
    "incidence_deg": "Incidence angle (°)",
}
_TIPS = {
    "probability": "'probability ' || format_number(\"probability\", 2)",
    "class_2": (
        "'or: ' || \"class_2\" || ' (' || format_number(\"probability_2\", 2) || ')'"
    ),
    "class_set": "'class set: ' || \"class_set\"",
    "ood": f"if(\"ood\", '{UNLIKE_LABEL}', NULL)",
    "length_m": "'length: ' || format_number(\"length_m\", 0) || ' m'",
    "corrected": "'corrected: ' || \"corrected\"",
}
"""QGIS expressions of the lines that are shown when the mouse rests on a chip."""

_OKABE_ITO = (
    "#e69f00",
    "#56b4e9",
    "#009e73",
    "#d55e00",
    "#0072b2",
    "#cc79a7",
    "#f0e442",
)
"""Colors that color-blind readers can distinguish (Okabe and Ito 2008), without black,
which is used for outlines."""

_GOLDEN_RATIO = (
    0.618034  # a step in hue by the golden ratio puts every new hue into the widest gap
)


class PredictionLayer(NamedTuple):
    """A table of predictions with everything that belongs into its file.

    Attributes:
        table: one row per chip; its column `geometry` contains shapes or None.
        crs: EPSG:4326; None if shapes are in pixels of the scene: column and -row, as
            in QGIS.
        classes: names of the classes, in the order of the bundle.
        metadata: how the table was made.
        geometry_type: type of the geometries, if the table has no rows.
        tile_step: for tiles of a grid, the step between them as a fraction of their
            size, at most 1; None for others.
        boxes: boxes of the chips in pixels by the name of the scene, for formats of
            labeling tools.
    """

    table: pd.DataFrame
    crs: str | None
    classes: tuple[str, ...]
    metadata: dict[str, Any]
    geometry_type: Literal["Point", "Polygon"] = "Point"
    tile_step: float | None = None
    boxes: Mapping[str, SceneBoxes] = {}

    @property
    def is_spatial(self) -> bool:
        """Whether a row has a geometry, or will have one when the table gets rows."""
        return self.table.empty or bool(self.table["geometry"].notna().any())

    @property
    def shape(self) -> Literal["point", "box", "tile"]:
        """Kind of the geometries: points, outlines of objects or chips, or tiles of a grid."""
        types = {shape.geom_type for shape in self.table["geometry"].dropna()} or {
            self.geometry_type
        }
        if types == {"Point"}:
            return "point"
        if self.tile_step is None:
            return "box"
        return "tile"

    def has(self, column: str) -> bool:
        """Return whether the table has a column."""
        return column in self.table

    def with_corrections(self) -> PredictionLayer:
        """Return the layer with an empty column `corrected` after the class, unless the positions have such a column.

        An analyst enters corrections there.
        """
        if not self.is_spatial or CORRECTED_COLUMN in {
            name.casefold() for name in self.table.columns
        }:
            return self
        table = self.table.copy(deep=False)
        empty = pd.Series(None, index=table.index, dtype=pd.ArrowDtype(pa.string()))
        table.insert(
            list(table.columns).index(CLASS_COLUMN) + 1, CORRECTED_COLUMN, empty
        )
        return self._replace(table=table)


def check_output_file(path: Path, suffixes: Sequence[str], overwrite: bool) -> None:
    """Check that an output can be written.

    Args:
        path: path of the output.
        suffixes: the suffixes that it may have.
        overwrite: whether to replace an existing file.

    Raises:
        RequestError: the suffix is another one, the path is a folder, or the file
            exists.
    """
    if path.suffix.lower() not in suffixes:
        raise RequestError(
            f"the output must be a {suffixes[0]} file",
            path,
            f"give it the suffix {suffixes[0]}",
        )
    if path.is_dir():
        raise RequestError("the output is a folder", path, "give the path of a file")
    if path.exists() and not overwrite:
        raise RequestError(
            "the file exists already",
            path,
            "give --overwrite to replace it, or another name",
        )


def check_output_path(
    path: Path,
    columns: Iterable[str],
    *,
    overwrite: bool = False,
    discard_corrections: bool = False,
) -> None:
    """Check that a table can be written, before a job starts.

    Args:
        path: path of the table.
        columns: names of its columns.
        overwrite: whether to replace an existing file.
        discard_corrections: whether to replace even a file in which an analyst entered
            corrections.

    Raises:
        RequestError: the format is unknown or does not support the columns, or the file
            exists.
    """
    suffix = table_suffix(path)
    if suffix == ".shp":
        message = (
            "a Shapefile cuts column names at 10 characters, has no NULL and ends at"
            " 2 GB"
        )
        raise RequestError(message, path, "use .gpkg, which has none of these limits")
    if suffix not in _WRITERS:
        raise RequestError(
            f"unknown format: {suffix or 'no suffix'}",
            path,
            f"use {', '.join(_WRITERS)}",
        )
    if suffix == ".xlsx":
        check_installed("excel", "openpyxl")
    folded = [column.casefold() for column in columns]
    if suffix == ".gpkg" and len(set(folded)) < len(folded):
        repeated = sorted({column for column in folded if folded.count(column) > 1})
        message = (
            "a GeoPackage ignores case, so these column names are duplicates:"
            f" {', '.join(repeated)}"
        )
        raise RequestError(message, path, "use .geojson or .csv")
    if path.is_dir():
        raise RequestError("the output is a folder", path, "give the path of a file")
    for file in (path, *sidecar_paths(path)):
        if file.exists() and not overwrite:
            raise RequestError(
                "the file exists already",
                file,
                "give --overwrite to replace it, or another name",
            )
    if not discard_corrections and (corrections := _count_corrections(path)):
        message = (
            f"the file contains {corrections:,} labels in its field {CORRECTED_COLUMN},"
            " which would be lost"
        )
        raise RequestError(
            message,
            path,
            (
                "give another name; or keep them with rsft data add, then give"
                " --discard-corrections"
            ),
        )


_EXCEL_ROWS = 1_048_576
_EXCEL_COLUMNS = 16_384
_EXCEL_LETTERS = 32_767
_EXCEL_INTEGER = 10**15
"""Limits of a sheet, and of a cell; Excel keeps 15 digits of a number."""


def check_table_size(path: Path, rows: int, columns: int) -> None:
    """Check that the format of a table can have so many rows and columns.

    Raises:
        RequestError: they do not fit on a sheet of Excel.
    """
    if table_suffix(path) == ".xlsx" and (
        rows >= _EXCEL_ROWS or columns > _EXCEL_COLUMNS
    ):
        limit = (
            f"below its header, a sheet of Excel has {_EXCEL_ROWS - 1:,} rows and"
            f" {_EXCEL_COLUMNS:,} columns"
        )
        raise RequestError(
            f"{rows:,} rows and {columns:,} columns, but {limit}",
            path,
            "use .gpkg, .parquet or .csv",
        )


def _count_corrections(path: Path) -> int:
    """Count the labels that an analyst entered in a layer.

    A file that cannot be read contains none.
    """
    labels: list[Any] = []
    with suppress(
        sqlite3.Error, OSError, ValueError, LookupError, TypeError, AttributeError
    ):
        if path.suffix.lower() == ".gpkg" and path.is_file():
            labels = [label for (label,) in _select(path, _SELECT_CORRECTIONS)]
        elif path.suffix.lower() == ".geojson":
            features = load_json(path, sys.maxsize)["features"]
            labels = [
                feature["properties"].get(CORRECTED_COLUMN) for feature in features
            ]
    return sum(label is not None and str(label).strip() != "" for label in labels)


def sidecar_paths(path: Path) -> list[Path]:
    """Return the files that rsft writes beside a table, in which QGIS finds its style or the types of its columns."""
    suffix = _SIDECARS.get(path.suffix.lower())
    if suffix:
        return [path.with_suffix(suffix)]
    return []


def write_prediction_table(
    layer: PredictionLayer,
    path: Path,
    *,
    overwrite: bool = False,
    discard_corrections: bool = False,
) -> None:
    """Write a table in the format of the suffix.

    A GeoPackage has a table of metadata, GeoJSON has a member beside the features, and
    GeoParquet has a schema entry. CSV and Excel have no metadata. A file .qml beside
    GeoJSON contains the style for QGIS, a file .csvt beside CSV the types of the
    columns. Formats of labeling tools have the boxes in pixels, the classes and the
    scores.

    Args:
        layer: the table.
        path: path of the file.
        overwrite: whether to replace an existing file.
        discard_corrections: whether to replace even a file in which an analyst entered
            corrections.

    Raises:
        RequestError: see `check_output_path`.
    """
    check_output_path(
        path,
        layer.table.columns,
        overwrite=overwrite,
        discard_corrections=discard_corrections,
    )
    _WRITERS[table_suffix(path)](layer, path)


def table_suffix(path: Path) -> str:
    """Return the suffix of a table, which selects its format, in lower case: `.coco.json` of `out.coco.json`."""
    return next(
        (suffix for suffix in _WRITERS if path.name.lower().endswith(suffix)),
        path.suffix.lower(),
    )


def _write_gpkg(layer: PredictionLayer, path: Path) -> None:
    # has a second GDAL: not imported before the weights of the engine are released
    import pyogrio
    from geopandas import GeoDataFrame

    layer = layer.with_corrections()
    frame = layer.table.drop(columns="geometry")
    if layer.is_spatial:
        frame = GeoDataFrame(
            frame, geometry=list(layer.table["geometry"]), crs=layer.crs
        )
    if frame.empty:
        options = {"geometry_type": layer.geometry_type}
    else:
        options = {}
    with atomic_file(path) as temporary:
        temporary.unlink()  # SQLite needs to create the file itself
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", "'crs' was not provided"
            )  # pixel coordinates have no coordinate system
            pyogrio.write_dataframe(
                frame, temporary, LAYER_NAME, "GPKG", use_arrow=True, **options
            )  # keeps dates
        if layer.is_spatial:
            styles = [(qml_style(layer), sld_style(layer), LAYER_NAME)]
        else:
            styles = []
        add_geopackage_tables(temporary, layer.metadata, styles)


def add_geopackage_tables(
    path: Path,
    metadata: Mapping[str, Any],
    styles: Sequence[tuple[str, str | None, str]],
) -> None:
    """Add the tables of styles and of metadata to a GeoPackage.

    Args:
        path: the GeoPackage.
        metadata: texts, and values that become JSON.
        styles: QML, SLD or None, and name of each layer.
    """
    texts = {
        key: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for key, value in metadata.items()
    }
    with closing(sqlite3.connect(path)) as database, database:
        if styles:
            database.execute(_CREATE_LAYER_STYLES)
            database.execute(_REGISTER_TABLE, ("layer_styles", "layer_styles"))
            database.executemany(_STYLE, styles)
        columns = "id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, key TEXT, value TEXT"
        database.execute(f"CREATE TABLE {METADATA_TABLE} ({columns})")
        database.execute(_REGISTER_TABLE, (METADATA_TABLE, METADATA_TABLE))
        database.executemany(
            f"INSERT INTO {METADATA_TABLE} (key, value) VALUES (?, ?)", texts.items()
        )


def read_geopackage_metadata(path: Path) -> dict[str, str]:
    """Return the metadata of the predictions in a GeoPackage; empty if it is none or does not exist."""
    try:
        return dict(
            _select(path, f"SELECT key, value FROM {METADATA_TABLE}", seconds=10)
        )
    except sqlite3.Error:
        return {}


def _select(path: Path, query: str, seconds: float = float("inf")) -> list[Any]:
    with closing(
        sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)
    ) as database:
        database.setlimit(
            sqlite3.SQLITE_LIMIT_LENGTH, 2**28
        )  # the table may be a view of a stranger
        deadline = time.monotonic() + seconds
        database.set_progress_handler(lambda: int(time.monotonic() > deadline), 100_000)
        return database.execute(query).fetchall()


def _write_geojson(layer: PredictionLayer, path: Path) -> None:
    has_geometry = (
        layer.crs == LONLAT and layer.is_spatial
    )  # RFC 7946 only allows degrees
    if has_geometry:
        layer = layer.with_corrections()
    rows = _without_nan(layer.table.drop(columns="geometry"))
    shapes = layer.table["geometry"] if has_geometry else [None] * len(rows)
    features = [
        {
            "type": "Feature",
            "geometry": shape and json.loads(shapely.to_geojson(shape)),
            "properties": row,
        }
        for row, shape in zip(rows.to_dict("records"), shapes, strict=True)
    ]
    collection = {
        "type": "FeatureCollection",
        "name": LAYER_NAME,
        "metadata": layer.metadata,
        "features": features,
    }
    text = json.dumps(
        collection, ensure_ascii=False, default=lambda date: date.isoformat()
    )
    with _table_and_sidecar(
        path, qml_style(layer) if has_geometry else None
    ) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _without_nan(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table of objects with None for NaN and infinity, which neither JSON nor Excel has."""
    rows = table.astype(object)
    return rows.where(rows.notna() & ~rows.isin([np.inf, -np.inf]), None)


def _write_parquet(layer: PredictionLayer, path: Path) -> None:
    import pyarrow.parquet as pq
    from geopandas import GeoDataFrame

    covering = (
        layer.is_spatial and "bbox" not in layer.table
    )  # the name of the column that geopandas adds
    plain = (
        pa.BufferOutputStream()
    )  # without metadata of rsft, which geopandas does not write
    options = {
        "schema_version": "1.1.0",
        "write_covering_bbox": covering,
        "row_group_size": _ROW_GROUP,
    }
    GeoDataFrame(layer.table, geometry="geometry", crs=layer.crs).to_parquet(
        plain, index=False, **options
    )
    source = pq.ParquetFile(plain.getvalue())
    metadata = json.dumps(layer.metadata, ensure_ascii=False).encode()
    schema = source.schema_arrow.with_metadata(
        {**source.schema_arrow.metadata, b"rsft": metadata}
    )
    with atomic_file(path) as temporary, pq.ParquetWriter(temporary, schema) as writer:
        for group in range(source.num_row_groups):
            rows = source.read_row_group(group)
            # GeoParquet 1.1 requires null for rows without a geometry; geopandas writes
            # NaN
            if covering:
                boxes = rows["bbox"].combine_chunks()
                shapes = rows["geometry"].combine_chunks()
                cleared = pa.StructArray.from_arrays(
                    boxes.flatten(), fields=list(boxes.type), mask=shapes.is_null()
                )
                rows = rows.set_column(
                    rows.schema.get_field_index("bbox"), "bbox", cleared
                )
            writer.write_table(rows.cast(schema))


def _with_wkt(layer: PredictionLayer) -> pd.DataFrame:
    """Return the table with the geometries as texts in the column `wkt`, unless no row has one."""
    flat = layer.table.rename(columns={"geometry": "wkt"})
    flat["wkt"] = [
        shape and shapely.to_wkt(shape, rounding_precision=7)
        for shape in layer.table["geometry"]
    ]
    if len(flat) and flat["wkt"].isna().all():
        return flat.drop(columns="wkt")
    return flat


def _write_csv(layer: PredictionLayer, path: Path) -> None:
    flat = _with_wkt(layer)
    types = [
        "WKT" if name == "wkt" else _CSV_TYPES.get(flat[name].dtype.kind, "String")
        for name in flat
    ]
    with _table_and_sidecar(
        path, ",".join(f'"{type_}"' for type_ in types)
    ) as temporary:
        escape_table(flat).to_csv(temporary, index=False)


def _write_xlsx(layer: PredictionLayer, path: Path) -> None:
    """Write a sheet.

    Texts have the type of texts, so that Excel executes none; times are in UTC.
    """
    rows = _without_nan(_with_wkt(layer))
    check_table_size(path, *rows.shape)
    book = require("openpyxl", "excel").Workbook(write_only=True)
    cell_type = require("openpyxl.cell", "excel").WriteOnlyCell
    sheet = book.create_sheet(LAYER_NAME)
    sheet.freeze_panes = "A2"

    def to_cell(value: Any) -> Any:
        if isinstance(value, datetime) and value.tzinfo is not None:
            value = value.astimezone(UTC).replace(tzinfo=None)
        is_long = (
            isinstance(value, int | np.integer) and abs(int(value)) > _EXCEL_INTEGER
        )
        if value is None or (
            isinstance(value, int | float | np.generic | date) and not is_long
        ):
            return value
        text = replace_controls(str(value))
        if len(text) > _EXCEL_LETTERS:
            raise RequestError(
                (
                    f"a text has {len(text):,} letters, but a cell of Excel has at most"
                    f" {_EXCEL_LETTERS:,}"
                ),
                path,
                "use .gpkg, .parquet or .csv",
            )
        cell = cell_type(sheet, text)
        cell.data_type = "s"  # not the formula that openpyxl makes of a text with "="
        return cell

    with closing(
        sheet
    ):  # also after an error: openpyxl writes rows to a temporary file
        for row in (tuple(rows.columns), *rows.itertuples(index=False, name=None)):
            sheet.append([to_cell(value) for value in row])
    with atomic_file(path) as temporary:
        book.save(temporary)


def _write_coco(layer: PredictionLayer, path: Path) -> None:
    content = coco_content(layer.table, layer.boxes, layer.classes)
    _write_json(
        {"info": {"description": "predictions of rsft", **layer.metadata}, **content},
        path,
    )


def _write_label_studio(layer: PredictionLayer, path: Path) -> None:
    version = str(layer.metadata.get("bundle_sha256", "rsft"))[:12]
    _write_json(label_studio_content(layer.table, layer.boxes, version), path)


def _write_json(content: Any, path: Path) -> None:
    with atomic_file(path) as temporary:
        temporary.write_text(
            json.dumps(content, ensure_ascii=False, default=str), encoding="utf-8"
        )


@contextmanager
def _table_and_sidecar(path: Path, text: str | None) -> Iterator[Path]:
    """Yield a temporary path of a table.

    Table and sidecar get their names together, if the block succeeds.

    The text is the content of the sidecar; None removes one of an earlier table.
    """
    (sidecar,) = sidecar_paths(path)
    if text is None:
        with atomic_file(path) as temporary:
            yield temporary
        sidecar.unlink(missing_ok=True)
        return
    with atomic_file(sidecar) as temporary_sidecar:
        temporary_sidecar.write_text(text, encoding="utf-8")
        with atomic_file(path) as temporary:
            yield temporary


_SIDECARS = {".geojson": ".qml", ".csv": ".csvt"}
_WRITERS: dict[str, Callable[[PredictionLayer, Path], None]] = {
    ".gpkg": _write_gpkg,
    ".geojson": _write_geojson,
    ".parquet": _write_parquet,
    ".csv": _write_csv,
    ".xlsx": _write_xlsx,
    ".coco.json": _write_coco,
    ".labelstudio.json": _write_label_studio,
}


class _Category(NamedTuple):
    """One entry of the legend.

    With a step it explains the size or opacity, and no chip belongs to it.
    """

    value: str
    label: str
    color: str
    step: int | None = None

    @property
    def is_unlike(self) -> bool:
        return self.value == UNLIKE_LABEL

    @property
    def shown_step(self) -> int:
        """Step of a symbol whose chip is not known, as in the legend."""
        if self.is_unlike:
            return 2
        if self.step is None:
            return 1
        return self.step


def class_colors(classes: Sequence[str]) -> dict[str, str]:
    """Return a color as #rrggbb for every class, by its index in the bundle."""
    colors = list(_OKABE_ITO)
    for step in range(len(classes) - len(_OKABE_ITO)):
        rgb = colorsys.hsv_to_rgb(step * _GOLDEN_RATIO % 1, 0.65, (0.85, 0.6)[step % 2])
        colors.append("#" + "".join(f"{round(255 * value):02x}" for value in rgb))
    return dict(zip(classes, colors, strict=False))


def qml_style(layer: PredictionLayer) -> str:
    """Return a QGIS style.

    Points are discs. Boxes are discs at small scales. Tiles are reduced to the step of
    the grid, so that they do not overlap, and are transparent as a layer. Chips unlike
    the training chips are gray, and hatched if they are polygons. Less probable classes
    have smaller discs, thinner outlines or fainter tiles. Labels show class and
    probability, at scales with room for them; tiles have none, their color is enough.
    """
    category = label = f'"{CLASS_COLUMN}"'
    categories = [
        _Category(name, name, color)
        for name, color in class_colors(layer.classes).items()
    ]
    if layer.has("ood"):
        categories.append(_Category(UNLIKE_LABEL, UNLIKE_LABEL, _GRAY))
    if layer.has("probability"):
        label += " || coalesce(' ' || round(100 * \"probability\") || ' %', '')"
        high, middle, _ = _PROBABILITY_LIMITS
        labels = (
            f"probability {high:g} or more",
            f"{middle:g} to {high:g}",
            f"below {middle:g}",
        )
        categories += [
            _Category(f"({label})", label, _OUTLINE, step)
            for step, label in enumerate(labels)
        ]
    if layer.has("ood"):
        category = f"if(\"ood\", '{UNLIKE_LABEL}', {category})"
        label = f'if("ood", NULL, {label})'
    if layer.has(CORRECTED_COLUMN):
        category, label = (
            f'if({_IS_CORRECTED}, "{CORRECTED_COLUMN}", {text})'
            for text in (category, label)
        )
    if layer.crs == LONLAT:
        meters = (
            f"{_METERS_PER_DEGREE} * sqrt(area($geometry) *"
            " cos(radians(y(centroid($geometry)))))"
        )
        box_mm = f"1000 * {meters} / @map_scale"
    else:  # the scale of the map has no meaning in pixels, so its width is assumed
        box_mm = f"{_MAP_WIDTH_MM} * sqrt(area($geometry)) / @map_extent_width"
    is_box = f"{box_mm} >= {_SMALLEST_BOX_MM}"
    tips = ", ".join(
        [
            f"'<b>' || \"{CLASS_COLUMN}\" || '</b>'",
            *(_TIPS[name] for name in _TIPS if layer.has(name)),
        ]
    )
    columns = [name for name in layer.table.columns if name != "geometry"]
    step = f"{layer.tile_step or 1.0:.6g}"
    return _render(
        "style.qml",
        layer,
        categories=categories,
        choices={"": _QGIS_NULL}
        | {name: name for name in (*layer.classes, NOT_A_TARGET, UNSURE)},
        columns=columns,
        aliases={name: _ALIASES.get(name) for name in columns}
        | {f"p_{name}": f"Probability of {name}" for name in layer.classes},
        category_expression=category,
        label=label,
        map_tip=f"[% array_to_string(array_remove_all(array({tips}), NULL), '<br>') %]",
        tile=f"scale($geometry, {step}, {step})",
        is_box=f"coalesce({is_box}, true)",
        small_box=f"if({is_box}, NULL, centroid($geometry))",
        in_degrees=layer.crs == LONLAT,
        steps=lambda category, name, values: _steps(layer, category, name, values),
        rgba=_rgba,
        polygon=_polygon,
        disc_mm=_DISC_MM,
        outline_mm=_OUTLINE_MM,
        tile_percent=_TILE_PERCENT,
    )


def sld_style(layer: PredictionLayer) -> str:
    """Return an SLD style with one rule per class."""
    return _render(
        "style.sld",
        layer,
        name=LAYER_NAME,
        colors=class_colors(layer.classes),
        unlike_label=UNLIKE_LABEL,
        gray=_GRAY,
    )


def _render(template: str, layer: PredictionLayer, **values: Any) -> str:
    style = {"shape": layer.shape, "has": layer.has, "outline": _OUTLINE}
    return render_template(
        "rsft.inference.writers", template, **style, **values
    ).strip()


def render_template(package: str, template: str, **values: Any) -> str:
    """Render a template of a package; values are escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader(package, ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    return environment.get_template(template).render(**values)


def _steps(
    layer: PredictionLayer, category: _Category, name: str, values: tuple[float, ...]
) -> dict[str, str]:
    """Return a property that depends on the probability.

    Chips unlike the training chips are never emphasized.
    """
    if category.step is not None or category.is_unlike or not layer.has("probability"):
        return {}
    steps = zip(_PROBABILITY_LIMITS, values, strict=True)
    cases = [
        f'WHEN "probability" >= {limit:g} THEN {value:g}' for limit, value in steps
    ]
    if layer.has(CORRECTED_COLUMN):
        cases.insert(0, f"WHEN {_IS_CORRECTED} THEN {values[0]:g}")
    return {name: f"CASE {' '.join(cases)} END"}


def _polygon(category: _Category, alpha: int, outline_mm: float) -> dict[str, str]:
    return {
        "style": "b_diagonal" if category.is_unlike else "solid",
        "color": _rgba(category.color, 255 if category.is_unlike else alpha),
        "outline_color": _rgba(category.color, 255),
        "outline_width": f"{outline_mm:g}",
        "outline_style": "solid",
    }


def _rgba(color: str, alpha: int) -> str:
    return (
        ",".join(str(int(color[start : start + 2], 16)) for start in (1, 3, 5))
        + f",{alpha}"
    )
