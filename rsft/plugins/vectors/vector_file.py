"""Tables of vectors: Parquet or GeoParquet with one row per chip."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import shapely

from rsft.data.imagery.contract import Contract
from rsft.errors import DataError, RequestError
from rsft.inference.predict.chip_files import ChipTable, SourceChip
from rsft.inference.prediction_table import read_table_file
from rsft.plugins.vectors.vector_image import vector_to_image
from rsft.types import Bytes, Reals

VECTOR = "vector"
"""Name of the column of vectors that `rsft embed` writes."""

NAMES = ("chip", "name", "path", "id", "sha256", "hash")
"""Columns that name a chip; the first one counts."""

_VECTORS = (VECTOR, "embedding", "vectors", "embeddings")
_NUMBERED = re.compile(r"(.*?)(\d+)")
_HINT = (
    "give a column `vector` of lists, or one column of numbers for each dimension, such"
    " as A00 to A63"
)


@dataclass(frozen=True, eq=False)
class VectorFile:
    """The content of a table of vectors.

    Attributes:
        path: the file.
        table: its other columns; a row per chip.
        vectors: (N, D); a row of NaN for a chip without a vector.
        names: name of each chip.
        model: name of the model, and its hash, if the file states them.
    """

    path: Path
    table: pd.DataFrame
    vectors: Reals
    names: list[str]
    model: str

    @property
    def band(self) -> str:
        """Name of the band of the chips, which tells one model from another."""
        model = re.sub(r"\W+", "_", self.model).strip("_")
        return f"vector_{model}_{self.vectors.shape[1]}".replace("__", "_")

    def image(self, row: int) -> Bytes:
        """Return the image of a chip, see `vector_image`.

        Raises:
            DataError: the chip has no vector, or one that is not finite.
        """
        vector = self.vectors[row]
        if not np.isfinite(vector).all():
            raise DataError(
                f"the chip {self.names[row]} has no vector",
                self.path,
                "leave out the row, or give it finite numbers",
            )
        return vector_to_image(vector)


def read_vector_file(path: Path) -> VectorFile:
    """Read a table of vectors.

    Raises:
        RequestError: the file cannot be read, or has no column with names or vectors.
    """
    table, metadata = read_table_file(path, "give a table of vectors")
    names = [name for name in NAMES if name in table]
    if not names:
        raise RequestError(
            "no column names the chips", path, f"call it {' or '.join(NAMES[:3])}"
        )
    columns, vectors = _read_vectors(table, path)
    if not len(table):
        raise RequestError("the table has no rows", path, _HINT)
    model = str(metadata.get("model", ""))[:60]
    digest = str(metadata.get("model_sha256", ""))[:12]
    return VectorFile(
        path,
        table.drop(columns=columns),
        vectors,
        table[names[0]].astype(str).tolist(),
        f"{model} {digest}",
    )


def _read_vectors(table: pd.DataFrame, path: Path) -> tuple[list[str], Reals]:
    """Return the names of the columns of the vectors, and the vectors (N, D)."""
    for name in _VECTORS:
        if name in table:
            return [name], _stack(table[name], path)
    groups: dict[str, dict[int, str]] = {}
    for name in table.columns:
        match = _NUMBERED.fullmatch(str(name))
        if match and pd.api.types.is_numeric_dtype(table[name]):
            groups.setdefault(match[1], {})[int(match[2])] = name
    numbered = max(groups.values(), key=len, default={})
    if len(numbered) < 2:
        raise RequestError("no column contains vectors", path, _HINT)
    columns = [numbered[number] for number in sorted(numbered)]
    return columns, table[columns].to_numpy(np.float32)


def _stack(cells: pd.Series[Any], path: Path) -> Reals:
    """Return lists of numbers as rows; an empty cell becomes NaN.

    Raises:
        RequestError: the lists differ in length, or contain something else.
    """
    lengths = {len(cell) for cell in cells if cell is not None}
    if len(lengths) != 1:
        raise RequestError(
            f"vectors of {len(lengths)} lengths: {sorted(lengths)[:5]}", path, _HINT
        )
    empty = np.full(lengths.pop(), np.nan, np.float32)
    try:
        return np.stack(
            [empty if cell is None else np.asarray(cell, np.float32) for cell in cells]
        )
    except (TypeError, ValueError) as error:
        raise RequestError(
            f"the vectors are no numbers: {error}", path, _HINT
        ) from error


class VectorTable(ChipTable):
    """The rows of tables of vectors as chips."""

    name: ClassVar = "parquet"

    def __init__(self, files: Sequence[Path], contract: Contract) -> None:
        self.rows: list[tuple[VectorFile, int]] = []
        for file in map(read_vector_file, files):
            self.rows += [(file, row) for row in range(len(file.names))]
        self.contract = contract

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, number: int) -> SourceChip:
        file, row = self.rows[number]
        pixels = self.contract.select_bands(file.image(row), [file.band])
        columns: dict[str, Any] = {
            "chip": file.names[row],
            "path": str(file.path),
            "geometry": None,
        }
        if "path" in file.table:
            columns["path"] = str(file.table["path"].iloc[row])
        if "geometry" in file.table:
            columns["geometry"] = check_degrees(file.table["geometry"].iloc[row], file)
        return SourceChip(pixels, "uint8", None, columns, {})

    def chip_name(self, number: int) -> str:
        file, row = self.rows[number]
        return file.names[row]

    def location_of(self, number: int) -> tuple[str, int]:
        file, row = self.rows[number]
        return str(file.path), row + 1


def check_degrees(shape: Any, file: VectorFile) -> Any:
    """Return a shape in longitude and latitude.

    Args:
        shape: the geometry of a row; None for a row without one.
        file: the file, for the message.

    Returns:
        The shape; None if it is missing or empty.

    Raises:
        DataError: its coordinates are no degrees.
    """
    if shape is None or shape.is_empty:
        return None
    west, south, east, north = shapely.bounds(shape)
    if min(west, south) < -180 or max(east, north) > 180 or north > 90 or south < -90:
        raise DataError(
            "the geometry is not in degrees",
            file.path,
            "convert it to longitude and latitude (EPSG:4326)",
        )
    return shape
