"""Chip store: image files with unchanged pixels, a checked manifest and a description.

Statistics of a store: class counts come from the manifest, pixel values from the files.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from rsft.data.chips.class_names import Counts
from rsft.data.chips.manifest import (
    MANIFEST,
    PREPARE_HINT,
    SPLITS,
    read_manifest_classes,
    read_manifest_parts,
)
from rsft.data.imagery.bands import POLARIZATIONS
from rsft.data.imagery.reader import read_chip
from rsft.data.imagery.units import DIGITAL_UNITS
from rsft.errors import DataError, RequestError
from rsft.types import Indices, JsonObject, Names, Pixels, Progress
from rsft.utils.atomic_files import sha256
from rsft.utils.cell.client import allow_reading
from rsft.utils.licenses import UNKNOWN
from rsft.utils.progress import track
from rsft.utils.tables import escape_cell
from rsft.utils.untrusted.documents import load_json, read_regular

MAX_SAMPLED_SIDES = 200
"""Largest number of chips whose size is read to find the common one."""

DATASET = "dataset.json"
REJECTED = "rejected.csv"
README = "README.md"
AUDIT_FILE = "audit.json"
PENDING = "pending"
"""Key in dataset.json of a change that is being written, see
`rsft.data.chips.additions`."""

CLASS_FIGURE = "classes.svg"
CONTACT_SHEETS = "contact"
"""Figure of the class distribution; folder with one contact sheet per class."""


class _Chips(BaseModel):
    """A part of an addition."""

    chips: int


class Addition(BaseModel):
    """What the README tells of an addition."""

    date: str
    table: str
    added: list[_Chips]
    relabeled: list[_Chips]
    noise: Names = ()

    def __str__(self) -> str:
        added = sum(part.chips for part in self.added)
        relabeled = sum(part.chips for part in self.relabeled)
        day = self.date[:10]
        return f"{day}: {added:,} chips from {self.table}, {relabeled:,} relabeled"


class PendingChange(BaseModel):
    """A change that was being written when its process was killed.

    Attributes:
        manifest_sha256: SHA-256 of the new manifest.
        description: the new content of dataset.json.
    """

    manifest_sha256: str
    description: JsonObject = Field(alias="dataset.json")


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
        command: the command that built the store.
        notes: what was chosen when the store was built.
        additions: what was added later, in words.
    """

    root: Path
    name: str
    classes: Names
    groups: dict[str, list[str]]
    bands: Names
    skipped: dict[str, int]
    rejected: int
    license: str = UNKNOWN
    command: str = ""
    notes: Names = ()
    additions: tuple[Addition, ...] = ()

    @classmethod
    def open(cls, root: Path) -> Self:
        """Open the chip store at `root`; its rows are read when they are used.

        Raises:
            RequestError: the folder is not a chip store.
            DataError: the store is damaged.
        """
        for file in (MANIFEST, DATASET, REJECTED):
            if not (root / file).is_file():
                raise RequestError(
                    "the folder is not a chip store",
                    root,
                    f"{file} is missing: {PREPARE_HINT}",
                )
        allow_reading(root)
        manifest_classes = read_manifest_classes(root / MANIFEST)
        counted = {"root": root, "rejected": _count_rejected(root / REJECTED)}
        try:
            store = TypeAdapter(cls).validate_python(read_dataset(root) | counted)
        except ValidationError as error:
            raise _damaged(root / DATASET, _describe_fault(error)) from error
        named = manifest_classes.union(*store.groups.values())
        unknown = sorted(named - set(store.classes))
        if unknown:
            fault = f"manifest or groups name the unknown classes {', '.join(unknown)}"
            raise _damaged(root / DATASET, fault)
        return store

    @property
    def group_indices(self) -> dict[str, list[int]]:
        """The class indices of head, medium and tail."""
        return {
            group: [self.classes.index(name) for name in names]
            for group, names in self.groups.items()
        }

    @cached_property
    def table(self) -> pd.DataFrame:
        """The manifest: one row per chip, sorted by path; read on first use.

        Raises:
            DataError: the manifest is damaged.
        """
        return self.read()

    def read(
        self, columns: Sequence[str] | None = None, split: str | None = None
    ) -> pd.DataFrame:
        """Read the table, or some of its columns or the rows of a split.

        Parts need less memory.

        Raises:
            DataError: the manifest is damaged.
        """
        return pd.concat(self.read_parts(columns, split))

    def read_parts(
        self, columns: Sequence[str] | None = None, split: str | None = None
    ) -> Iterator[pd.DataFrame]:
        """Yield the table in parts, whose index counts all rows; see `read`.

        Raises:
            DataError: the manifest is damaged.
        """
        yield from read_manifest_parts(self.root, columns, split)

    @cached_property
    def _categories(self) -> pd.DataFrame:
        # a few bytes per chip
        return self.read(["split", "class", "unit", "polarisation"]).astype("category")

    @cached_property
    def counts(self) -> Counts:
        """Number of chips by split and class."""
        found = self._categories[["split", "class"]].value_counts()
        return {
            split: {name: int(found.get((split, name), 0)) for name in self.classes}
            for split in SPLITS
        }

    @property
    def size(self) -> int:
        """Number of chips in the splits."""
        return sum(sum(chips.values()) for chips in self.counts.values())

    @cached_property
    def units(self) -> Names:
        """Units of the chips, in alphabetical order."""
        return tuple(sorted(self._categories["unit"].unique()))

    @property
    def is_radar(self) -> bool:
        """Whether the chips are known to be radar images.

        A calibrated unit, a polarization or a band that is named by one says so.
        """
        polarizations = set(self._categories["polarisation"].dropna()) - {""}
        polarizations.update(set(self.bands) & set(POLARIZATIONS))
        return not set(self.units) <= set(DIGITAL_UNITS) or bool(polarizations)

    @cached_property
    def _splits(self) -> dict[str, pd.DataFrame]:
        return {}

    def split(self, name: str) -> pd.DataFrame:
        """Return the manifest rows of one split.

        The table is empty if the data set does not have the split.
        """
        if name not in self._splits:
            self._splits[name] = self.read(split=name).reset_index(drop=True)
        return self._splits[name].copy(deep=False)

    def class_counts(self, split: str) -> Indices:
        """Count the chips of each class in a split: (C,), in the order of `classes`."""
        return np.array([*self.counts[split].values()], np.int64)

    def iter_pixels(self, split: str, unit: str) -> Iterator[Pixels]:
        """Yield the pixels (H, W, B) of a split's chips that have a unit.

        They have the values on disk.

        Raises:
            DataError: a chip cannot be read.
        """
        rows = self.split(split)
        for path in rows["path"][rows["unit"] == unit]:
            yield read_chip(self.root / path)

    def sample_sides(self, split: str) -> list[int]:
        """Return the longer sides, in pixels, of some chips of a split.

        At most `MAX_SAMPLED_SIDES` chips are read, evenly spaced.

        Raises:
            DataError: a chip cannot be read.
        """
        paths = self.split(split)["path"]
        step = math.ceil(len(paths) / MAX_SAMPLED_SIDES) or 1
        return [max(read_chip(self.root / path).shape[:2]) for path in paths[::step]]


def read_dataset(root: Path) -> JsonObject:
    """Read dataset.json of a store.

    If a change was interrupted, return the content that belongs to the manifest.

    Raises:
        DataError: the file is damaged.
    """
    path = root / DATASET
    try:
        dataset: JsonObject = load_json(path)
        if not isinstance(dataset, dict):
            raise ValueError("it is not a JSON object")
        if PENDING in dataset:
            change = PendingChange.model_validate(dataset.pop(PENDING))
            if change.manifest_sha256 == sha256(root / MANIFEST):
                return change.description
    except ValidationError as error:
        raise _damaged(path, f"{PENDING}.{_describe_fault(error)}") from error
    except (OSError, ValueError) as error:
        raise _damaged(path, error) from error
    return dataset


def _damaged(path: Path, fault: object) -> DataError:
    return DataError(
        f"the description of the data set is damaged: {fault}",
        path,
        f"correct the file, or {PREPARE_HINT}",
    )


def _describe_fault(error: ValidationError) -> str:
    details = error.errors(include_url=False)[0]
    path = ".".join(map(str, details["loc"]))
    return f"{path or 'its keys'}: {details['msg']}"


def _count_rejected(path: Path) -> int:
    """Return the number of rows of rejected.csv, whatever is in them."""
    text = read_regular(path).decode("utf-8", "replace")
    try:
        rows: Sequence[object] = list(
            filter(None, csv.reader(io.StringIO(text, newline="")))
        )
    except csv.Error:  # a row that is no CSV
        rows = [line for line in text.splitlines() if line.strip()]
    return max(0, len(rows) - 1)


def write_rejected(path: Path, rows: Iterable[Sequence[object]]) -> None:
    """Write file, line and reason of rejected inputs."""
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("file", "line", "reason"))
        for row in rows:
            table.writerow(map(escape_cell, row))


def summarize_pixels(
    root: Path, table: pd.DataFrame, progress: Progress | None = None
) -> pd.DataFrame:
    """Summarize the pixels of chips, the rows `table` of a manifest, in one pass.

    Returns:
        One row per unit and data type, such as "db float32" (index "kind"). Columns:
        number of chips, shortest and longest side in pixels, lowest, highest and mean
        pixel value, and bytes of the files.

    Raises:
        DataError: a chip cannot be read; the message names it.
    """
    rows = []
    chips = zip(table["path"], table["unit"], strict=True)
    for path, unit in track(chips, len(table), progress, "reading chips"):
        pixels = read_chip(root / path)
        row = {
            "kind": " ".join(dict.fromkeys((unit, str(pixels.dtype)))),
            "shortest": min(pixels.shape[:2]),
            "longest": max(pixels.shape[:2]),
            "lowest": pixels.min().item(),
            "highest": pixels.max().item(),
            "total": pixels.sum(dtype=np.float64),
            "pixels": pixels.size,
            "bytes": (root / path).stat().st_size,
        }
        rows.append(row)
    groups = pd.DataFrame(rows, columns=["kind", *_SUMMARY]).groupby("kind")
    summary = groups.agg(_SUMMARY)
    summary.insert(0, "chips", groups.size())
    summary["mean"] = summary.pop("total") / summary.pop("pixels")
    return summary


_SUMMARY = {
    "shortest": "min",
    "longest": "max",
    "lowest": "min",
    "highest": "max",
    "total": "sum",
    "pixels": "sum",
    "bytes": "sum",
}
"""How the columns of the chips become those of `summarize_pixels`."""
