"""Chip store: image files with unchanged pixels, and a manifest with one row per chip."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError

from rsft.data.imagery.reader import read_chip
from rsft.errors import DataError, RequestError
from rsft.types import Pixels
from rsft.utils.atomic_files import sha256
from rsft.utils.licenses import UNKNOWN
from rsft.utils.untrusted.documents import parse_json
from rsft.utils.untrusted.tables import Column, check_columns

SPLITS = ("train", "val", "test")
MANIFEST, DATASET, REJECTED, README = "manifest.parquet", "dataset.json", "rejected.csv", "README.md"
PENDING = "pending"
"""Key in dataset.json of a change that is being written, see `rsft.data.chips.commit`."""

CLASS_FIGURE, CONTACT_SHEETS = "classes.png", "contact"
"""Figure of the class distribution; folder with one contact sheet per class."""

SCHEMA = pa.schema(
    [
        ("name", pa.string()),
        ("path", pa.string()),  # relative to the root
        ("split", pa.string()),
        ("class", pa.string()),
        ("group", pa.string()),
        ("group_key", pa.string()),  # scene or vessel; two splits must not share one
        ("source", pa.string()),
        ("sensor", pa.string()),
        ("unit", pa.string()),  # uint8, uint16; for float32: amplitude, intensity, sigma0, db, gamma0, gamma0_db, beta0
        ("bands", pa.string()),  # joined by commas
        ("spacing_m", pa.float64()),  # pixel spacing, mean of both directions
        ("polarisation", pa.string()),
        ("incidence_deg", pa.float64()),
        ("mmsi", pa.string()),
        ("box", pa.list_(pa.float64())),  # x1 y1 ... x4 y4 in pixels of the chip
        ("sha256", pa.string()),
        ("flags", pa.string()),  # joined by commas
    ]
)

_PREPARE = "build it with `rsft prepare`"
_CLASS = Column("class")
_COLUMNS = [
    *(Column(name) for name in ("name", "path", "unit", "bands")),
    _CLASS,
    Column("split", choices=SPLITS),
    *(Column(name, optional=True) for name in ("group", "group_key", "source", "sensor", "flags")),
    Column("spacing_m", "number", optional=True),
]


class _Description(BaseModel):
    """The keys of dataset.json that every user of a store needs."""

    name: str
    classes: tuple[str, ...]
    groups: dict[str, list[str]]
    bands: tuple[str, ...]
    skipped: dict[str, int]
    license: str = UNKNOWN


@dataclass(frozen=True, eq=False)
class ChipStore:
    """A chip store that is open for reading.

    Attributes:
        root: its folder.
        name: name of the data set.
        classes: class names in the order of the labels.
        groups: class names of head, medium and tail; a group may be empty.
        bands: names of the bands, the same for all chips.
        skipped: number of inputs that the build left out on purpose, by reason.
        rejected: number of inputs that cannot be used; rejected.csv lists them.
        license: license of the data; "unknown" for stores of rsft 0.1.
    """

    root: Path
    name: str
    classes: tuple[str, ...]
    groups: dict[str, list[str]]
    bands: tuple[str, ...]
    skipped: dict[str, int]
    rejected: int
    license: str = UNKNOWN

    @classmethod
    def open(cls, root: Path) -> ChipStore:
        """Open the chip store at `root`.

        Args:
            root: folder with manifest.parquet, dataset.json and rejected.csv.

        Returns:
            The store; its manifest is read on first use.

        Raises:
            RequestError: the folder is not a chip store.
            DataError: the store is damaged.
        """
        for file in (MANIFEST, DATASET, REJECTED):
            if not (root / file).is_file():
                raise RequestError("the folder is not a chip store", root, f"{file} is missing: {_PREPARE}")
        manifest_classes = _read_classes(root / MANIFEST)
        description = _read_description(root)
        unknown = sorted(manifest_classes - set(description.classes))
        if unknown:
            raise DataError(f"{DATASET} does not contain the classes {', '.join(unknown)}", root / MANIFEST, _PREPARE)
        if unknown := sorted({x for names in description.groups.values() for x in names} - set(description.classes)):
            raise DataError(f"groups name the unknown class {unknown[0]}", root / DATASET, _PREPARE)
        return cls(root, rejected=_count_rejected(root / REJECTED), **dict(description))

    @property
    def group_indices(self) -> dict[str, list[int]]:
        """The class indices of head, medium and tail."""
        return {group: [self.classes.index(name) for name in names] for group, names in self.groups.items()}

    @cached_property
    def table(self) -> pd.DataFrame:
        """The manifest: one row per chip, sorted by path; read on first use.

        Raises:
            DataError: the manifest is damaged.
        """
        table = read_manifest(self.root)
        return table.assign(unit=table["unit"].str.lower())

    @cached_property
    def units(self) -> tuple[str, ...]:
        """Units of the chips, in alphabetical order."""
        return tuple(sorted(set(self.table["unit"])))

    def split(self, name: str) -> pd.DataFrame:
        """Return the manifest rows of one split.

        Args:
            name: "train", "val" or "test".

        Returns:
            One row per chip; empty if the data set does not have this split.

        Raises:
            RequestError: the name is not a split.
        """
        if name not in SPLITS:
            raise RequestError(f"{name} is not a split", self.root, f"choose one of {', '.join(SPLITS)}")
        return self.table[self.table["split"] == name].reset_index(drop=True)

    def class_counts(self, split: str) -> NDArray[np.int64]:
        """Count the chips of each class.

        Args:
            split: "train", "val" or "test".

        Returns:
            Number of chips (C,), in the order of `classes`.
        """
        counts = self.split(split)["class"].value_counts()
        return np.array([counts.get(name, 0) for name in self.classes], np.int64)

    def iter_pixels(self, split: str, unit: str) -> Iterator[Pixels]:
        """Read the chips of a split that have a given unit.

        Args:
            split: "train", "val" or "test".
            unit: unit of the chips, as in the manifest.

        Yields:
            Pixels of one chip (H, W, B), with the values on disk.

        Raises:
            DataError: a chip cannot be read.
        """
        rows = self.split(split)
        for path in rows["path"][rows["unit"] == unit]:
            yield read_chip(self.root / path)


def check_manifest_paths(paths: Iterable[object], manifest: Path) -> None:
    """Check that the chips of a manifest lie in their store.

    Args:
        paths: the column `path`.
        manifest: path of the manifest, for the error.

    Raises:
        DataError: a path is not a text, is absolute, or leaves the store.
    """
    for number, path in enumerate(paths, 1):
        if not isinstance(path, str) or not path or "\0" in path:
            raise DataError(f"row {number:,} has no path of a chip", manifest, _PREPARE)
        name = PurePosixPath(path.replace("\\", "/"))
        if name.is_absolute() or PureWindowsPath(path).drive or ".." in name.parts:
            raise DataError(f"the path in row {number:,} leaves the store: {path[:200]}", manifest, _PREPARE)


def read_manifest(root: Path) -> pd.DataFrame:
    """Read the manifest of a store, and check the types of its columns.

    Args:
        root: folder of the store.

    Returns:
        One row per chip.

    Raises:
        DataError: the manifest is damaged. The message names the row and the column.
    """
    try:
        table: pd.DataFrame = pq.read_table(root / MANIFEST).to_pandas(ignore_metadata=True)
        check_manifest_paths(table["path"], root / MANIFEST)
        check_columns(table, _COLUMNS)
    except (OSError, ValueError, TypeError, KeyError, pa.ArrowException) as error:
        raise DataError(f"the manifest cannot be read: {error}", root / MANIFEST, _PREPARE) from error
    return table


def read_dataset(root: Path) -> dict[str, Any]:
    """Read the description of a store. If a change was interrupted, this is the one that belongs to the manifest.

    Args:
        root: folder of the store.

    Returns:
        The content of dataset.json.
    """
    dataset: dict[str, Any] = parse_json((root / DATASET).read_bytes())
    pending = dataset.pop(PENDING, None)
    if pending is not None and pending["manifest_sha256"] == sha256(root / MANIFEST):
        return dict(pending[DATASET])
    return dataset


def _read_description(root: Path) -> _Description:
    try:
        return _Description.model_validate(read_dataset(root))
    except ValidationError as error:
        details = error.errors(include_url=False)[0]
        key = ".".join(map(str, details["loc"])) or "its keys"
        message = f"the description of the data set is damaged: {key}: {details['msg']}"
        raise DataError(message, root / DATASET, _PREPARE) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError("the description of the data set is damaged", root / DATASET, _PREPARE) from error


def _count_rejected(path: Path) -> int:
    """Return the number of rows of rejected.csv, whatever is in them."""
    content = path.read_bytes()
    try:
        rows = sum(1 for row in csv.reader(io.StringIO(content.decode("utf-8", "replace"), newline="")) if row)
    except csv.Error:  # a row that is no CSV
        rows = sum(1 for line in content.splitlines() if line.strip())
    return max(0, rows - 1)


def _read_classes(path: Path) -> set[str]:
    """Return the classes in a manifest, after a check of its columns."""
    try:
        file = pq.ParquetFile(path)
        missing = [name for name in SCHEMA.names if name not in file.schema_arrow.names]
        if missing:
            raise DataError(f"the manifest has no column {', '.join(missing)}", path, _PREPARE)
        table = file.read(["class"]).to_pandas(ignore_metadata=True)
        check_columns(table, [_CLASS])
        return set(table["class"])
    except (OSError, ValueError, TypeError, KeyError, pa.ArrowException) as error:
        raise DataError(f"the manifest cannot be read: {error}", path, _PREPARE) from error
