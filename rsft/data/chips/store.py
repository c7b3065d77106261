"""Chip store: image files with unchanged pixels, and a checked manifest.

The manifest has one row per chip.

Statistics of a store: class counts come from the manifest, pixel values from the files.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import permutations
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Self

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from rsft.data.chips.record import group_by_class
from rsft.data.imagery.reader import read_chip
from rsft.data.imagery.units import DIGITAL_UNITS
from rsft.errors import DataError, RequestError
from rsft.types import JsonObject, Names, Pixels, Progress
from rsft.utils.atomic_files import sha256
from rsft.utils.cell.client import allow_reading
from rsft.utils.licenses import UNKNOWN
from rsft.utils.tables import (
    Column,
    check_columns,
    escape_cell,
    read_parquet_header,
    read_parquet_parts,
)
from rsft.utils.untrusted.documents import load_json, read_regular

SPLITS = ("train", "val", "test")
PROVENANCE = {
    "added_from": pa.string(),  # table with the label
    "added_bundle": pa.string(),  # SHA-256 of the bundle that had classified the chip
    "added_predicted": pa.string(),  # class that it had predicted
    # class of the chip in the store before, if it had one
    "added_previous": pa.string(),
    "added_on": pa.string(),  # date and time
}
"""Optional columns of the manifest: where rows come from that were added to a finished
store, or got another class."""

CLASS_COLUMN = Column("class")
_COLUMNS = [
    *(Column(name) for name in ("name", "path", "unit", "bands")),
    CLASS_COLUMN,
    Column("split", choices=SPLITS),
    *(
        Column(name, optional=True)
        for name in ("group", "group_key", "source", "sensor", "flags")
    ),
    *(Column(name, optional=True) for name in ("polarisation", "mmsi", "sha256")),
    *(Column(name, "number", optional=True) for name in ("spacing_m", "incidence_deg")),
    *(Column(name, optional=True, required=False) for name in PROVENANCE),
]
_SHOWN = 60  # letters of a cell in a message


def check_manifest_columns(table: pd.DataFrame) -> None:
    """Check the types and the ranges of the cells of a manifest.

    Raises:
        ValueError: a column is missing or occurs twice, or a cell is wrong. The text
            names the row (its index + 1) and the column.
    """
    if table.columns.has_duplicates:
        raise ValueError(
            f"two columns are called {table.columns[table.columns.duplicated()][0]}"
        )
    check_columns(table, _COLUMNS)
    hashes = _filled_cells(table["sha256"]).astype(str)
    _check_cells(table["sha256"], ~hashes.str.fullmatch("(?i)[0-9a-f]{64}"), _SHA256)
    angles = _filled_cells(table["incidence_deg"]).astype(float)
    _check_cells(table["incidence_deg"], ~angles.between(-90, 90), _ANGLE)
    boxes = _filled_cells(table["box"])
    if len(boxes) and not _are_boxes(boxes):
        _check_cells(table["box"], boxes.map(lambda box: not _are_boxes([box])), _BOX)


def _filled_cells(column: pd.Series) -> pd.Series:
    cells = column.dropna()
    # a table that was edited as text has empty texts in all its columns
    return cells[[not isinstance(cell, str) or cell != "" for cell in cells]]


def check_chip_path(path: object) -> None:
    """Check that the path of a chip in a manifest lies in its store.

    Raises:
        ValueError: the path is not a text, is absolute, or leaves the store.
    """
    if not isinstance(path, str) or not path or "\0" in path:
        raise ValueError("has no path of a chip")
    name = PurePosixPath(path.replace("\\", "/"))
    if name.is_absolute() or PureWindowsPath(path).drive or ".." in name.parts:
        raise ValueError(f"leaves the store: {path[:200]}")


def describe_column_fault(row: Mapping[str, Any]) -> str:
    """Return why the columns of a new chip cannot be stored, or "" if they can."""
    angle = row.get("incidence_deg")
    box = row.get("box")
    if angle is not None and not (math.isnan(angle) or -90 <= angle <= 90):
        return f"incidence_deg is {angle:g}, expected {_ANGLE}"
    if box is not None and not _are_boxes([box]):
        return f"box is {str(box)[:_SHOWN]}, expected {_BOX}"
    return ""


_SHA256 = "64 hexadecimal digits"
_ANGLE = "an angle from -90 to 90"
_BOX = "8 finite numbers"


def _check_cells(
    column: pd.Series[Any], is_wrong: pd.Series[bool], expected: str
) -> None:
    """Raise an error that names the first wrong cell.

    `is_wrong` has no rows for empty cells.
    """
    wrong = is_wrong[is_wrong.astype(bool)]
    if len(wrong):
        row = wrong.index[0]
        cell = column[row]
        found = (repr(cell) if isinstance(cell, str) else str(cell))[:_SHOWN]
        raise ValueError(
            f"row {row + 1:,}, column {column.name}: found {found}, expected {expected}"
        )


def _are_boxes(cells: Iterable[Any]) -> bool:
    """Return whether all cells are 8 finite numbers.

    This is much faster than a test of each cell.
    """
    try:
        numbers = np.stack(list(cells))
        return (
            numbers.shape[1:] == (8,)
            and numbers.dtype.kind in "fiu"
            and bool(np.isfinite(numbers).all())
        )
    except (ValueError, TypeError):
        return False


Counts = Mapping[str, Mapping[str, int]]
"""Number of chips by split and class; 0 if a class has no chip."""

ROW_GROUP = 4000
"""Rows of a manifest that are written and read at the same time."""
MAX_SAMPLED_SIDES = 200
"""Largest number of chips whose size is read to find the common one."""
MANIFEST = "manifest.parquet"
DATASET = "dataset.json"
REJECTED = "rejected.csv"
README = "README.md"
AUDIT_FILE = "audit.json"
PENDING = "pending"
"""Key in dataset.json of a change that is being written, see
`rsft.data.chips.additions`."""

CLASS_FIGURE = "classes.png"
CONTACT_SHEETS = "contact"
"""Figure of the class distribution; folder with one contact sheet per class."""

_TYPES = {
    "spacing_m": pa.float64(),
    "incidence_deg": pa.float64(),
    "box": pa.list_(pa.float64()),
}
_NAMES = (
    "name",
    "path",
    "split",
    "class",
    "group",
    "group_key",
    "source",
    "sensor",
    "unit",
    "bands",
    "spacing_m",
    "polarisation",
    "incidence_deg",
    "mmsi",
    "box",
    "sha256",
    "flags",
)
SCHEMA = pa.schema([(name, _TYPES.get(name, pa.string())) for name in _NAMES])
"""Columns of the manifest. `path` is relative to the root; `group_key` is a scene or
vessel, which two splits must not share; `spacing_m` is the pixel spacing, the mean of
both directions; `box` is x1 y1 ... x4 y4 in pixels of the chip; `bands` and `flags` are
joined by commas."""

OBJECT_COLUMNS = {
    **{
        "acquired": pa.string(),
        "pass_direction": pa.string(),
        "source_row": pa.int64(),
    },
    **dict.fromkeys(
        (
            "row",
            "col",
            "lon",
            "lat",
            "length_m",
            "width_m",
            "heading_deg",
            "ais_confidence",
        ),
        pa.float64(),
    ),
}
"""Further columns of chips that rsft cut from a scene.

Time in UTC; the number of the object in its file; its place in pixels of the scene and
in degrees; length, width and direction (clockwise from north, 0 to 180) of its box;
confidence that it is the ship with its MMSI.
"""

_PREPARE = "build it with `rsft prepare`"
_NO_PENDING = (
    f'remove the key "{PENDING}" from the file, then repeat the change that was'
    " interrupted"
)


class _Chips(BaseModel):
    """A part of an addition."""

    chips: int


class Addition(BaseModel):
    """What the README tells of an addition."""

    date: str
    table: str
    added: list[_Chips]
    relabeled: list[_Chips]
    noise: tuple[str, ...] = ()

    def __str__(self) -> str:
        added = sum(part.chips for part in self.added)
        relabeled = sum(part.chips for part in self.relabeled)
        day = self.date[:10]
        return f"{day}: {added:,} chips from {self.table}, {relabeled:,} relabeled"


class PendingChange(BaseModel):
    """A change that was being written when its process was killed.

    Attributes:
        manifest_sha256: SHA-256 of the new manifest.
        files: paths of the new chips.
        description: the new content of dataset.json.
    """

    manifest_sha256: str
    files: Names
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
    notes: tuple[str, ...] = ()
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
                    f"{file} is missing: {_PREPARE}",
                )
        allow_reading(root)
        manifest_classes = _read_classes(root / MANIFEST)
        counted = {"root": root, "rejected": _count_rejected(root / REJECTED)}
        try:
            store = TypeAdapter(cls).validate_python(read_dataset(root) | counted)
        except ValidationError as error:
            raise DataError(
                f"the description of the data set is damaged: {_describe_fault(error)}",
                root / DATASET,
                _PREPARE,
            ) from error
        unknown = sorted(manifest_classes - set(store.classes))
        if unknown:
            raise DataError(
                f"{DATASET} does not contain the classes {', '.join(unknown)}",
                root / MANIFEST,
                _PREPARE,
            )
        unknown = sorted(set(group_by_class(store.groups)) - set(store.classes))
        if unknown:
            raise DataError(
                f"groups name the unknown class {unknown[0]}", root / DATASET, _PREPARE
            )
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

        A calibrated unit or a polarization says so.
        """
        polarizations = set(self._categories["polarisation"].dropna()) - {""}
        return not set(self.units) <= set(DIGITAL_UNITS) or bool(polarizations)

    @cached_property
    def _splits(self) -> dict[str, pd.DataFrame]:
        return {}

    def split(self, name: str) -> pd.DataFrame:
        """Return the manifest rows of one split.

        The table is empty if the data set does not have the split.

        Raises:
            RequestError: the name is not a split.
        """
        if name not in SPLITS:
            raise RequestError(
                f"{name} is not a split",
                self.root,
                f"choose one of {', '.join(SPLITS)}",
            )
        if name not in self._splits:
            self._splits[name] = self.read(split=name).reset_index(drop=True)
        return self._splits[name].copy(deep=False)

    def class_counts(self, split: str) -> NDArray[np.int64]:
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


def read_manifest(
    root: Path, columns: Sequence[str] | None = None, split: str | None = None
) -> pd.DataFrame:
    """Read the manifest of a store, and check the types of all columns.

    It has one row per chip.

    Args:
        root: folder of the store.
        columns: the columns to return; None returns all.
        split: the split to return; None returns all.

    Returns:
        The rows; their index counts all rows of the manifest.

    Raises:
        DataError: the manifest is damaged. The message names the row and the column.
    """
    return pd.concat(read_manifest_parts(root, columns, split))


def read_manifest_parts(
    root: Path, columns: Sequence[str] | None = None, split: str | None = None
) -> Iterator[pd.DataFrame]:
    """Yield the manifest in parts, whose index counts all rows; see `read_manifest`."""
    try:
        for part in read_parquet_parts(root / MANIFEST):
            for row, path in zip(part.index.tolist(), part["path"], strict=True):
                try:
                    check_chip_path(path)
                except ValueError as error:
                    raise ValueError(f"row {row + 1:,} {error}") from error
            check_manifest_columns(part)
            part["unit"] = part["unit"].str.lower()
            if split is not None:
                part = part[part["split"] == split]
            yield part if columns is None else part[list(columns)]
    except (OSError, ValueError, TypeError, KeyError, pa.ArrowException) as error:
        raise DataError(
            f"the manifest cannot be read: {error}", root / MANIFEST, _PREPARE
        ) from error


def read_dataset(root: Path) -> JsonObject:
    """Read dataset.json of a store.

    If a change was interrupted, return the content that belongs to the manifest.

    Raises:
        DataError: the file is damaged.
    """
    dataset, change = read_pending_change(root)
    if change is not None and change.manifest_sha256 == sha256(root / MANIFEST):
        return change.description
    return dataset


def read_pending_change(root: Path) -> tuple[JsonObject, PendingChange | None]:
    """Read dataset.json.

    Returns the description without "pending", and the change under this key.

    Raises:
        DataError: the file is damaged. The message names the key.
    """
    path = root / DATASET
    try:
        dataset = load_json(path)
    except (OSError, ValueError) as error:
        raise DataError(
            f"the description of the data set is damaged: {error}", path, _PREPARE
        ) from error
    if not isinstance(dataset, dict):
        raise DataError(
            "the description of the data set is damaged: it is not a JSON object",
            path,
            _PREPARE,
        )
    if PENDING not in dataset:
        return dataset, None
    try:
        return dataset, PendingChange.model_validate(dataset.pop(PENDING))
    except ValidationError as error:
        fault = _describe_fault(error, PENDING)
        raise DataError(
            f"the record of an interrupted change is damaged: {fault}",
            path,
            _NO_PENDING,
        ) from error


def _describe_fault(error: ValidationError, key: str = "") -> str:
    details = error.errors(include_url=False)[0]
    path = ".".join(filter(None, map(str, (key, *details["loc"]))))
    return f"{path or 'its keys'}: {details['msg']}"


def _count_rejected(path: Path) -> int:
    """Return the number of rows of rejected.csv, whatever is in them."""
    content = read_regular(path)
    try:
        rows = sum(
            1
            for row in csv.reader(
                io.StringIO(content.decode("utf-8", "replace"), newline="")
            )
            if row
        )
    except csv.Error:  # a row that is no CSV
        rows = sum(1 for line in content.splitlines() if line.strip())
    return max(0, rows - 1)


def write_rejected(path: Path, rows: Iterable[Sequence[object]]) -> None:
    """Write file, line and reason of rejected inputs."""
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("file", "line", "reason"))
        for row in rows:
            table.writerow(map(escape_cell, row))


def _read_classes(path: Path) -> set[str]:
    """Return the classes in a manifest, after a check of its columns."""
    classes = set[str]()
    try:
        _, columns = read_parquet_header(path)
        missing = [name for name in SCHEMA.names if name not in columns]
        if missing:
            raise DataError(
                f"the manifest has no column {', '.join(missing)}", path, _PREPARE
            )
        for part in read_parquet_parts(path, ["class"]):
            check_columns(part, [CLASS_COLUMN])
            classes.update(part["class"])
        return classes
    except (OSError, ValueError, TypeError, KeyError, pa.ArrowException) as error:
        raise DataError(
            f"the manifest cannot be read: {error}", path, _PREPARE
        ) from error


_RARE_RATIO = 10  # a typo occurs in few labels
_SHORTEST_NAME = 4
_LATIN_LETTERS = str.maketrans("асеорхуіјѕοανρυ", "aceopxyijsoavpu")
"""Cyrillic and Greek letters -> Latin letters that look equal."""


def missing_classes(counts: Counts) -> dict[str, list[str]]:
    """Find classes that lack chips in a split that has chips of other classes.

    Returns:
        Names of the missing classes by split; splits without one are left out.
    """
    totals = Counter[str]()
    for chips in counts.values():
        totals.update(chips)
    missing: dict[str, list[str]] = {}
    for split, chips in counts.items():
        absent = [name for name in totals if totals[name] and not chips.get(name)]
        if absent and any(chips.values()):
            missing[split] = absent
    return missing


def list_first_names(names: Sequence[str], limit: int = 10) -> str:
    """Return names for a message: the first `limit`, and how many follow."""
    return ", ".join(names[:limit]) + (
        f" and {len(names) - limit:,} more" if len(names) > limit else ""
    )


def find_label_typos(counts: Mapping[str, int]) -> list[tuple[str, str]]:
    """Find rare classes whose name differs by one edit from that of a common class.

    One edit adds, removes or changes a letter, or exchanges two neighbors. Upper and
    lower case, spaces, hyphens, underscores and equal letters of two alphabets do not
    count. Names shorter than four
    characters and names that differ in a digit are left out.

    Returns:
        Pairs of the rare class and the class that is at least ten times as large. If
        the names only differ in case and separators, the sizes do not matter.

    Example:
        >>> find_label_typos({"Cargo": 50, "Crago": 1, "T-62": 5, "T-72": 90})
        [('Crago', 'Cargo')]
    """
    plain = {}
    for name in counts:
        letters = re.sub(r"[\s_-]", "", name).casefold()
        plain[name] = letters.translate(_LATIN_LETTERS)
    similar: dict[str, set[str]] = {}
    for name, text in plain.items():
        for pattern in {text, *_edit_patterns(text)}:
            similar.setdefault(pattern, set()).add(name)
    pairs = set[tuple[str, str]]()
    for names in similar.values():
        for rare, common in permutations(names, 2):
            if plain[rare] == plain[common]:
                is_rare = (counts[rare], rare) < (counts[common], common)
            else:
                is_rare = counts[rare] * _RARE_RATIO <= counts[common]
            if is_rare:
                pairs.add((rare, common))
    return sorted(pairs)


def _edit_patterns(text: str) -> Iterator[str]:
    """Yield patterns that two texts share if one edit makes them equal.

    An asterisk stands for a letter that is changed or missing, a slash is before two
    letters in any order.
    """
    if len(text) < _SHORTEST_NAME:
        return
    for index in range(len(text) + 1):
        before = text[:index]
        after = text[index:]
        yield f"{before}*{after}"
        if not after[:1].isdigit():
            yield f"{before}*{after[1:]}"
        if not any(map(str.isdigit, after[:2])):
            yield f"{before}/{''.join(sorted(after[:2]))}{after[2:]}"


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
    for done, (path, unit) in enumerate(chips, 1):
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
        if progress is not None:
            progress(done, len(table), "reading chips")
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
