"""Chip store: image files with unchanged pixels, and a manifest with one row per chip."""

from __future__ import annotations

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

from rsft.data.imagery.reader import read_chip
from rsft.errors import DataError, RequestError
from rsft.types import Pixels
from rsft.utils.atomic_files import sha256
from rsft.utils.licenses import UNKNOWN
from rsft.utils.untrusted.documents import parse_json

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
        try:
            metadata = read_dataset(root)
            classes, bands = tuple(metadata["classes"]), tuple(metadata["bands"])
            groups, skipped = dict(metadata["groups"]), dict(metadata["skipped"])
            name, license_text = str(metadata["name"]), str(metadata.get("license", UNKNOWN))
        except (ValueError, KeyError, TypeError) as error:
            raise DataError("the description of the data set is damaged", root / DATASET, _PREPARE) from error
        unknown = sorted(manifest_classes - set(classes))
        if unknown:
            raise DataError(f"{DATASET} does not contain the classes {', '.join(unknown)}", root / MANIFEST, _PREPARE)
        rejected = len(pd.read_csv(root / REJECTED))
        return cls(root, name, classes, groups, bands, skipped, rejected, license_text)

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
        try:
            table = pd.read_parquet(self.root / MANIFEST)
        except (OSError, pa.ArrowException) as error:
            raise DataError("the manifest cannot be read", self.root / MANIFEST, _PREPARE) from error
        check_manifest_paths(table["path"], self.root / MANIFEST)
        return table.assign(unit=table["unit"].str.lower()) if "unit" in table else table

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


def _read_classes(path: Path) -> set[str]:
    """Return the classes in a manifest, after a check of its columns."""
    try:
        file = pq.ParquetFile(path)
        missing = [name for name in SCHEMA.names if name not in file.schema_arrow.names]
        if missing:
            raise DataError(f"the manifest has no column {', '.join(missing)}", path, _PREPARE)
        return set(file.read(["class"])["class"].unique().to_pylist())
    except (OSError, pa.ArrowException) as error:
        raise DataError("the manifest cannot be read", path, _PREPARE) from error
