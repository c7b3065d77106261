"""Predictions as CSV, with the types of the columns beside it."""

from __future__ import annotations

from pathlib import Path

from rsft.inference.writers.layer import PredictionLayer, with_wkt
from rsft.inference.writers.table_format import (
    TABLE_FORMATS,
    TableFormat,
    table_and_sidecar,
)
from rsft.utils.tables import escape_table

_TYPES = {
    "b": "Integer(Boolean)",
    "i": "Integer64",
    "u": "Integer64",
    "f": "Real",
    "M": "DateTime",
}
"""GDAL's names of the types of columns, by the kind of their NumPy or pandas type."""


@TABLE_FORMATS.register
class CsvFile(TableFormat):
    """CSV with geometries as WKT; no metadata."""

    name = "csv"
    sidecar = ".csvt"

    def write(self, layer: PredictionLayer, path: Path) -> None:
        flat = with_wkt(layer)
        types = []
        for name in flat:
            kind = _TYPES.get(flat[name].dtype.kind, "String")
            types.append('"WKT"' if name == "wkt" else f'"{kind}"')
        with table_and_sidecar(path, self.sidecar, ",".join(types)) as temporary:
            escape_table(flat).to_csv(temporary, index=False)
