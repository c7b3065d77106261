"""Read a table that `rsft predict` wrote, in any of its formats."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pyogrio
from numpy.typing import NDArray

from rsft.errors import RequestError
from rsft.inference.predict.postprocess import SET_SEPARATOR, probability_columns
from rsft.inference.writers.geopackage import LAYER_NAME, read_geopackage_metadata

_HINT = "give a table that `rsft predict` wrote"
_TEXT_COLUMNS = ("chip", "scene", "path", "class", "set", "at", "corrected")
_SUM_TOLERANCE = 0.01  # of the probabilities of a chip, which are rounded

RawTable = tuple[pd.DataFrame, dict[str, Any]]


class PredictionFile(NamedTuple):
    """The content of a file of predictions.

    Attributes:
        table: one row per chip with valid probabilities; the index is the row number. The columns chip, scene, path,
            class, set, at and corrected are texts, "" without a value, if the file has them; `ood_distance` and
            `p_<class>` are numbers.
        classes: names of the classes.
        metadata: how the table was made; empty for CSV.
        invalid: number of rows that were left out, because they have no valid probabilities.
    """

    table: pd.DataFrame
    classes: tuple[str, ...]
    metadata: dict[str, Any]
    invalid: int = 0

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """The probability of every class, (N, C)."""
        return self.table[probability_columns(self.classes)].to_numpy(float)

    @property
    def set_sizes(self) -> NDArray[np.int64] | None:
        """The number of classes in every class set (N,), 0 if it was withheld; None if the table has no sets."""
        if "set" not in self.table:
            return None
        return np.array([len(text.split(SET_SEPARATOR)) if text else 0 for text in self.table["set"]], np.int64)


def read_prediction_file(path: Path, classes: Sequence[str] | None = None) -> PredictionFile:
    """Read a table of predictions.

    Args:
        path: a GeoPackage, GeoJSON, GeoParquet or CSV that `rsft predict` wrote. It may have more columns.
        classes: names of the classes, if they are known; None takes them from the metadata or from the columns.

    Returns:
        The table.

    Raises:
        RequestError: the file does not exist, cannot be read, or is not a table of predictions.
    """
    reader = _READERS.get(path.suffix.lower())
    if not path.exists():
        raise RequestError("no such file", path, _HINT)
    if reader is None or path.is_dir():
        formats = ", ".join(_READERS)
        raise RequestError("this is not a table of predictions or a chip store", path, f"give a {formats} file")
    try:
        table, metadata = reader(path)
    except RequestError:
        raise
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException, pyogrio.errors.DataSourceError) as error:
        message = f"the table cannot be read: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
        raise RequestError(message, path, _HINT) from error
    known = metadata.get("classes") if classes is None else classes
    return _check(path, table, tuple(known or _class_names(list(table.columns))), metadata)


def _class_names(columns: Sequence[str]) -> list[str]:
    """Return the classes of the first columns p_<class> that follow each other. Attributes may also begin with p_."""
    first = next((number for number, name in enumerate(columns) if name.startswith("p_")), len(columns))
    return [name[2:] for name in takewhile(lambda name: name.startswith("p_"), columns[first:])]


def _check(path: Path, table: pd.DataFrame, classes: tuple[str, ...], metadata: dict[str, Any]) -> PredictionFile:
    names = probability_columns(classes)
    missing = [name for name in ("path", "class", *(names or ["p_<class>"])) if name not in table]
    if missing:
        listed = ", ".join(map(str, table.columns[:8])) or "none"
        raise RequestError(f"the table has no column {', '.join(missing[:3])}; it has {listed}", path, _HINT)
    texts = {name: table[name].map(_as_text) for name in _TEXT_COLUMNS if name in table}
    numbers = {name: _as_numbers(table[name]) for name in ("ood_distance", *names) if name in table}
    table = table.assign(**texts, **numbers)
    probabilities = table[names].to_numpy(float)
    valid = (probabilities >= 0).all(axis=1) & (np.abs(probabilities.sum(axis=1) - 1) < _SUM_TOLERANCE)
    valid &= (table["path"] != "").to_numpy(bool)
    if len(table) and not valid.any():
        raise RequestError("no row has a path and the probabilities of all classes", path, _HINT)
    return PredictionFile(table[valid], classes, metadata, int((~valid).sum()))


def _as_text(value: Any) -> str:
    if value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value)):
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _as_numbers(column: pd.Series[Any]) -> pd.Series[Any]:
    return pd.to_numeric(column, errors="coerce").astype(float)


def _read_csv(path: Path) -> RawTable:
    text = path.read_text("utf-8-sig")
    if not text.strip():
        raise RequestError("the file is empty", path, _HINT)
    header = text.partition("\n")[0]
    separator, decimal = (";", ",") if header.count(";") > header.count(",") else (",", ".")
    table = pd.read_csv(path, sep=separator, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    if decimal == ",":  # as spreadsheets save it in many countries
        numeric = [name for name in table.columns if name == "ood_distance" or name.startswith("p_")]
        table[numeric] = table[numeric].apply(lambda column: column.str.replace(",", "."))
    return table, {}


def _read_geojson(path: Path) -> RawTable:
    content = json.loads(path.read_text("utf-8-sig"))
    metadata = content.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    rows = [feature["properties"] for feature in content["features"]]
    if rows:
        return pd.DataFrame(rows), metadata
    columns = ["path", "class", *probability_columns(metadata["classes"])]  # no feature names them
    return pd.DataFrame(columns=columns), metadata


def _read_parquet(path: Path) -> RawTable:
    schema = pq.read_schema(path)
    table = pq.read_table(path, columns=[name for name in schema.names if name != "geometry"]).to_pandas()
    return table, json.loads((schema.metadata or {}).get(b"rsft", b"{}"))


def _read_geopackage(path: Path) -> RawTable:
    layers = [str(name) for name, _ in pyogrio.list_layers(path)]
    layer = LAYER_NAME if LAYER_NAME in layers else layers[0]
    table = pyogrio.read_dataframe(path, layer=layer, read_geometry=False)
    return table, {name: _as_json(text) for name, text in read_geopackage_metadata(path).items()}


def _as_json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


_READERS: dict[str, Callable[[Path], RawTable]] = {
    ".gpkg": _read_geopackage,
    ".geojson": _read_geojson,
    ".parquet": _read_parquet,
    ".csv": _read_csv,
}
