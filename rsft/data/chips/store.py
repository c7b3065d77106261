"""The chip store: chips as files with unchanged pixels, and one manifest that says what each of them is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from rsft.data.imagery.reader import read_chip
from rsft.errors import DataError, RequestError
from rsft.types import Pixels

SPLITS = ("train", "val", "test")
MANIFEST, DATASET, REJECTED, README = "manifest.parquet", "dataset.json", "rejected.csv", "README.md"
FIGURE, CONTACT = "classes.png", "contact"  # class distribution; folder of one sheet a class

SCHEMA = pa.schema(
    [
        ("name", pa.string()),
        ("path", pa.string()),  # relative to the root
        ("split", pa.string()),
        ("class", pa.string()),
        ("group", pa.string()),
        ("group_key", pa.string()),  # scene or vessel: what a split must not share
        ("source", pa.string()),
        ("sensor", pa.string()),
        ("unit", pa.string()),  # uint8, uint16, or of float32: amplitude, intensity, sigma0, db
        ("bands", pa.string()),  # joined by commas
        ("spacing_m", pa.float64()),  # mean of both directions
        ("polarisation", pa.string()),
        ("incidence_deg", pa.float64()),
        ("mmsi", pa.string()),
        ("box", pa.list_(pa.float64())),  # x1 y1 ... x4 y4 in the chip's pixels
        ("sha256", pa.string()),
        ("flags", pa.string()),  # joined by commas
    ]
)

_PREPARE = "make it with `rsft prepare`"


@dataclass(frozen=True, eq=False)
class ChipStore:
    """A prepared root, opened for reading.

    Attributes:
        classes: in the order of the labels.
        groups: class names of head, medium and tail; a group may be empty.
        bands: names of the bands, the same for every chip.
        skipped: how many inputs the build left out on purpose, by reason.
        rejected: how many inputs it could not use; rejected.csv lists them.
    """

    root: Path
    name: str
    classes: tuple[str, ...]
    groups: dict[str, list[str]]
    bands: tuple[str, ...]
    skipped: dict[str, int]
    rejected: int

    @classmethod
    def open(cls, root: Path) -> ChipStore:
        """Open the chip store at `root`.

        Raises:
            RequestError: there is none.
            DataError: it is damaged.
        """
        for file in (MANIFEST, DATASET, REJECTED):
            if not (root / file).is_file():
                raise RequestError("there is no chip store", root, f"{file} is missing: {_PREPARE}")
        found = _classes_of(root / MANIFEST)
        try:
            facts = json.loads((root / DATASET).read_text("utf-8"))
            classes, bands = tuple(facts["classes"]), tuple(facts["bands"])
            groups, skipped = dict(facts["groups"]), dict(facts["skipped"])
            name = str(facts["name"])
        except (ValueError, KeyError, TypeError) as error:
            raise DataError("the description of the data set is damaged", root / DATASET, _PREPARE) from error
        unknown = sorted(found - set(classes))
        if unknown:
            raise DataError(f"classes that {DATASET} does not name: {', '.join(unknown)}", root / MANIFEST, _PREPARE)
        return cls(root, name, classes, groups, bands, skipped, len(pd.read_csv(root / REJECTED)))

    @cached_property
    def table(self) -> pd.DataFrame:
        """The manifest, one row a chip, sorted by path; read when first asked for.

        Raises:
            DataError: it is damaged.
        """
        try:
            return pd.read_parquet(self.root / MANIFEST)
        except (OSError, pa.ArrowException) as error:
            raise DataError("the manifest cannot be read", self.root / MANIFEST, _PREPARE) from error

    @cached_property
    def units(self) -> tuple[str, ...]:
        """The units that occur, in order of the alphabet."""
        return tuple(sorted(set(self.table["unit"])))

    def split(self, name: str) -> pd.DataFrame:
        """The rows of `name`: train, val or test; none where the data has no such split.

        Raises:
            RequestError: another name.
        """
        if name not in SPLITS:
            raise RequestError(f"there is no split called {name}", self.root, f"choose one of {', '.join(SPLITS)}")
        return self.table[self.table["split"] == name].reset_index(drop=True)

    def counts(self, split: str) -> NDArray[np.int64]:
        """Chips of each class (C,), in the order of `classes`."""
        counts = self.split(split)["class"].value_counts()
        return np.array([counts.get(name, 0) for name in self.classes], np.int64)

    def pixels(self, split: str, unit: str) -> Iterator[Pixels]:
        """The chips of `split` in `unit`, one after the other, as they are on disk (H, W, B).

        Raises:
            DataError: one cannot be read.
        """
        rows = self.split(split)
        for path in rows["path"][rows["unit"] == unit]:
            yield read_chip(self.root / path)


def _classes_of(path: Path) -> set[str]:
    """The classes in a manifest that has every column."""
    try:
        file = pq.ParquetFile(path)
        missing = [name for name in SCHEMA.names if name not in file.schema_arrow.names]
        if missing:
            raise DataError(f"the manifest has no column {', '.join(missing)}", path, _PREPARE)
        return set(file.read(["class"])["class"].unique().to_pylist())
    except (OSError, pa.ArrowException) as error:
        raise DataError("the manifest cannot be read", path, _PREPARE) from error
