"""Read the labels in a corrected table: that of the review page, or a table of predictions with a field of labels."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pyogrio
import shapely

from rsft.data.chips.record import describe_verdict_fault, parse_verdict
from rsft.data.datasets._label_files import find_separator
from rsft.data.imagery.vectors import READ_ERRORS, open_vector
from rsft.errors import RequestError
from rsft.inference.writers.geopackage import LAYER_NAME, METADATA_TABLE, read_geopackage_metadata
from rsft.utils.tables import unescape_table
from rsft.utils.untrusted.documents import parse_json

DEFAULT_FIELD = "corrected"
"""Field of a table of predictions that contains the labels."""

_OTHER_TABLES = frozenset((METADATA_TABLE, "layer_styles"))


@dataclass(frozen=True)
class CorrectedRow:
    """One row of a corrected table.

    Attributes:
        line: line of a CSV table, feature id of a GeoPackage, else the number of the row from 1.
        verdict: a class, "not a target" or "unsure"; "" if nobody looked at the row.
        path: the file of the chip, or of its scene.
        predicted: class that a bundle had predicted; "" if unknown.
        scene: name of the scene; "" if unknown.
        chip: name of the chip; "" if unknown.
        row: row of the center in pixels of the scene; NaN if unknown.
        col: column of the center in pixels of the scene; NaN if unknown.
        shape: the geometry; None if there is none.
        incidence_deg: incidence angle in degrees; None if unknown.
        split: split that the table states; "" if it states none.
        bundle: SHA-256 of the bundle; "" if unknown.
        fault: why the verdict cannot be used; "" if it can.
    """

    line: int
    verdict: str
    path: str
    predicted: str = ""
    scene: str = ""
    chip: str = ""
    row: float = np.nan
    col: float = np.nan
    shape: Any = None
    incidence_deg: float | None = None
    split: str = ""
    bundle: str = ""
    fault: str = ""


@dataclass(frozen=True)
class CorrectedTable:
    """A corrected table.

    Attributes:
        path: its file.
        rows: its rows.
        metadata: how the predictions were made; empty if the file does not contain it.
    """

    path: Path
    rows: list[CorrectedRow]
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def bundle_sha256(self) -> str:
        """SHA-256 of the bundle that made the predictions; "" if unknown."""
        return str(self.metadata.get("bundle_sha256", ""))


def read_corrected_table(path: Path, label_field: str | None = None) -> CorrectedTable:
    """Read a corrected table.

    Args:
        path: the CSV table of the review page (columns path, class, verdict), or a table of predictions as GeoPackage,
            GeoJSON, GeoParquet or CSV.
        label_field: field of the labels in a table of predictions (default: "corrected").

    Returns:
        All rows.

    Raises:
        RequestError: the file cannot be read, or has no field of labels.
    """
    frame, metadata = _read_frame(path)
    has_verdicts = "verdict" in frame or "chip" not in frame  # a table of predictions has chips
    is_page = path.suffix.lower() == ".csv" and {"path", "class"} <= set(frame) and has_verdicts and label_field is None
    if is_page:
        frame, metadata = _join_predictions(frame, path)
    name = "class" if is_page else _find_field(frame, label_field or DEFAULT_FIELD, path)
    rows = [_make_row(row, name, is_page) for row in frame.to_dict("records")]
    return CorrectedTable(path, rows, metadata)


def _read_frame(path: Path) -> tuple[pd.DataFrame, Mapping[str, Any]]:
    frame, metadata = read_table_file(path, "give the .csv of the review page, or a table of `rsft predict`")
    return frame.astype(object).where(frame.notna(), None), metadata


def _join_predictions(frame: pd.DataFrame, path: Path) -> tuple[pd.DataFrame, Mapping[str, Any]]:
    """Add what the table of predictions that a review page names says about its chips, so that they can be cut again.

    The table may have been replaced since. So a row only belongs to a chip of the same name, scene and center.

    Args:
        frame: the table of the page.
        path: its file.

    Returns:
        The table with shapes and incidence angles, and the metadata of the predictions. Without a table of predictions,
        the same table without metadata.

    Raises:
        RequestError: the rows name several tables of predictions, or theirs cannot be read.
    """
    names = sorted({_text(name) for name in frame.get("table", ())} - {""})
    if len(names) > 1:
        message = f"the rows name {len(names)} tables of predictions: {', '.join(names)}"
        raise RequestError(message, path, "add the labels of each review page by themselves")
    files = [file for name in names for file in (Path(name), path.parent / Path(name).name)]  # they may have been moved
    file = next((file for file in files if file.is_file()), None)
    if file is None:
        return frame, {}
    predictions, metadata = _read_frame(file)
    chips = {_text(row.get("chip")): row for row in predictions.to_dict("records")}
    rows = []
    for row in frame.to_dict("records"):
        chip = chips.get(_text(row.get("chip")), {})
        center, other = (np.array([_number(x.get("row")), _number(x.get("col"))]) for x in (row, chip))
        if _text(chip.get("scene")) == _text(row.get("scene")) and np.allclose(center, other, atol=0.01, rtol=0):
            rows.append(row | {"geometry": chip.get("geometry"), "incidence_deg": chip.get("incidence_deg")})
        else:
            rows.append(row | {"row": None})
    return pd.DataFrame(rows, columns=[*frame, *({"geometry", "incidence_deg"} - set(frame))], dtype=object), metadata


def read_table_file(path: Path, hint: str) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Read all columns of a table in any format of `rsft predict`, which other programs may have saved again.

    Args:
        path: GeoPackage, GeoJSON, GeoParquet or CSV (with commas, semicolons or tabs).
        hint: what to give instead of a file that does not exist or has another format.

    Returns:
        The columns, with `geometry` (shapes) and `_line` (line of a CSV table, feature id of a GeoPackage, else the
        number of the row from 1), and the metadata of the predictions. All columns of CSV are texts.

    Raises:
        RequestError: the file does not exist, has another format, or cannot be read.
    """
    suffix = path.suffix.lower()
    if not path.exists():
        raise RequestError("no such file", path, hint)
    if suffix not in _READERS or not path.is_file():
        message = f"unknown format: {suffix or 'no suffix'}"
        raise RequestError(message, path, f"{hint}: .gpkg, .geojson, .parquet or .csv")
    try:
        return _READERS[suffix](path)
    except (
        *(*READ_ERRORS, pa.ArrowException, csv.Error, OSError, KeyError),
        *(TypeError, AttributeError),  # JSON of another structure
    ) as error:
        text = str(error).strip().partition("\n")[0] or type(error).__name__
        raise RequestError(f"the table cannot be read: {text}", path, "save it again, CSV in UTF-8") from error


def _make_row(row: Mapping[Any, Any], label_field: str, is_page: bool) -> CorrectedRow:
    angle = _number(row.get("incidence_deg"))
    return CorrectedRow(
        line=int(row["_line"]),
        verdict=parse_verdict(_text(row[label_field]), _text(row.get("verdict")) if is_page else ""),
        path=_text(row.get("path")),
        predicted=_text(row.get("predicted" if is_page else "class")),
        scene=_text(row.get("scene")),
        chip=_text(row.get("chip")),
        row=_number(row.get("row")),
        col=_number(row.get("col")),
        shape=row.get("geometry"),
        incidence_deg=None if np.isnan(angle) else angle,
        split=_text(row.get("split")) if is_page else "",
        bundle=_text(row.get("bundle")) if is_page else "",
        fault=describe_verdict_fault(_text(row.get("verdict"))) if is_page else "",
    )


def _find_field(frame: pd.DataFrame, name: str, path: Path) -> str:
    names = [column for column in frame if str(column).casefold() == name.casefold()]
    if not names:
        fields = ", ".join(str(column) for column in frame if column not in ("_line", "geometry"))
        hint = f"add a text field {name} with the corrected classes, or name another one with --field: {fields}"
        raise RequestError(f"the table has no field {name}", path, hint)
    return name if name in names else str(names[0])


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():  # classes may be numbers
        value = int(value)
    return str(value).strip()


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")


def _read_csv(path: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    separator = find_separator(path.read_text("utf-8-sig"))
    frame = pd.read_csv(path, sep=separator, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    frame = unescape_table(frame)
    if "wkt" in frame:
        shapes = [shapely.from_wkt(text) if text else None for text in frame["wkt"]]
        frame["geometry"] = pd.Series(shapes, frame.index, object)
    return frame.assign(_line=range(2, len(frame) + 2)), {}


def _read_gpkg(path: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    open_vector(path)
    frame = pyogrio.read_dataframe(path, layer=_select_layer(path), fid_as_index=True)
    texts = read_geopackage_metadata(path)
    return _without_index(frame), {key: _from_json(text) for key, text in texts.items()}


def _read_geojson(path: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    content = parse_json(path.read_bytes())
    features = content["features"]
    rows = [
        feature.get("properties", {}) | {"_line": number, "geometry": _shape(feature.get("geometry"))}
        for number, feature in enumerate(features, 1)
    ]
    metadata = content.get("metadata")
    return pd.DataFrame(rows, dtype=object), metadata if isinstance(metadata, dict) else {}


def _read_parquet(path: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    table = pq.read_table(path)
    frame = table.to_pandas()
    if "geometry" in frame:
        frame["geometry"] = [None if value is None else shapely.from_wkb(value) for value in frame["geometry"]]
    metadata = (table.schema.metadata or {}).get(b"rsft", b"{}")
    return frame.assign(_line=range(1, len(frame) + 1)), parse_json(metadata)


_READERS = {
    ".csv": _read_csv,
    ".gpkg": _read_gpkg,
    ".geojson": _read_geojson,
    ".json": _read_geojson,
    ".parquet": _read_parquet,
}


def _select_layer(path: Path) -> str:
    names: Sequence[str] = [str(name) for name, _ in pyogrio.list_layers(path) if name not in _OTHER_TABLES]
    if LAYER_NAME in names:
        return LAYER_NAME
    if len(names) != 1:
        raise ValueError(f"{len(names)} layers: {', '.join(names)}; rename the corrected one to {LAYER_NAME}")
    return names[0]


def _without_index(frame: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(frame).assign(_line=frame.index).reset_index(drop=True)


def _shape(geometry: Any) -> Any:
    return None if geometry is None else shapely.from_geojson(json.dumps(geometry))


def _from_json(text: str) -> Any:
    return parse_json(text) if text[:1] in ("[", "{") else text
