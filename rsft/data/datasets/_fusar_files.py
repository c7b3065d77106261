"""Files of FUSAR-Ship: chips, categories by folder and name, and the metadata tables meta.csv and meta.xls.

This module imports no torch.
"""

from __future__ import annotations

import csv
import errno
import functools
import json
import os
import pathlib
import re
import stat
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

PathParts = tuple[str, ...]
"""Names of the folders of a file and of the file itself."""

_CHIP_STORE = {
    "dataset.json",
    "manifest.parquet",
}  # files of a folder of chips that were made from such files


def iterate_files(root: pathlib.Path) -> Iterator[PathParts]:
    """Yield the parts of the relative paths of the files below a folder, which need not exist, without hidden ones.

    Links are followed; a folder is visited once. Stores of chips that were made from
    such files are left out.

    Raises:
        OSError: a folder cannot be read, or a file is a pipe, a socket or a device,
            which could block for ever.
    """

    def fail(error: OSError) -> None:
        raise error

    visited: set[str] = set()
    for folder, folders, files in (
        os.walk(root, followlinks=True, onerror=fail) if root.is_dir() else ()
    ):
        real = os.path.realpath(folder)
        if real in visited or {*files} >= _CHIP_STORE:
            folders.clear()
            continue
        visited.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(name for name in files if not name.startswith(".")):
            path = pathlib.Path(folder, name)
            try:
                mode = path.stat().st_mode
            except OSError:  # reported when the file is read
                mode = stat.S_IFREG
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                raise OSError(
                    errno.EINVAL,
                    "it is a pipe, a socket or a device, not a file",
                    str(path),
                )
            yield path.relative_to(root).parts


MAX_LIST_BYTES = 2**28
"""Largest text file of labels or lists: 256 MiB."""


def read_text_lines(path: pathlib.Path) -> list[tuple[int, str]]:
    """Return number, from 1, and stripped text of the lines of a UTF-8 file that are not blank.

    Raises:
        OSError: the file cannot be read, or is larger than MAX_LIST_BYTES.
        ValueError: the file is not UTF-8, with or without a byte-order mark.
    """
    size = path.stat().st_size
    if size > MAX_LIST_BYTES:
        raise OSError(
            errno.EFBIG,
            f"it has {size:,} bytes; the limit is {MAX_LIST_BYTES:,}",
            str(path),
        )
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text") from error
    return [
        (number, line.strip()) for number, line in enumerate(lines, 1) if line.strip()
    ]


MAX_SHEET_BYTES = 2**26
"""Largest spreadsheet: 64 MiB. The one of FUSAR-Ship has 1 MB."""

_MEMORY = 2**30  # bytes of address space for the other process
_SECONDS = 120
_MAX_TEXT = 2**24  # letters of all cells; those of FUSAR-Ship have 1 million
_PROGRAM = f"""
import sys, json
from python_calamine import CalamineWorkbook
try:
    import resource
    resource.setrlimit(resource.RLIMIT_AS, ({_MEMORY},) * 2)
except (ImportError, ValueError, OSError):  # Windows
    pass
def text(cell):
    return str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell)
rows = CalamineWorkbook.from_path(sys.argv[1]).get_sheet_by_index(0).to_python(skip_empty_area=False)
rows = [[text(cell) for cell in row] for row in rows]
if sum(len(cell) + 4 for row in rows for cell in row) > {_MAX_TEXT}:
    sys.exit(1)
json.dump(rows, sys.stdout)
"""


def read_sheet(path: pathlib.Path) -> list[list[str]]:
    """Read the first sheet of an .xls or .xlsx file as text; whole numbers get no decimal point, so an MMSI is kept.

    A process of its own reads it with limited memory: a damaged .xls can ask for any
    amount of it.

    Returns:
        The cells of all rows.

    Raises:
        ValueError: the file is too large, is not a spreadsheet, or cannot be read
            within the limits.
        OSError: no process can be started.
    """
    hint = "save it as meta.csv"
    if not path.is_file() or path.stat().st_size > MAX_SHEET_BYTES:
        raise ValueError(
            f"{path} is larger than {MAX_SHEET_BYTES:,} bytes, or not a file; {hint}"
        )
    command = [sys.executable, "-c", _PROGRAM, str(path)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8"}
    try:
        result = subprocess.run(
            command, capture_output=True, timeout=_SECONDS, check=False, env=environment
        )
    except subprocess.TimeoutExpired as error:
        raise ValueError(f"{path} was not read within {_SECONDS} s; {hint}") from error
    if result.returncode:
        limits = f"{_MEMORY >> 20} MiB, with {_MAX_TEXT:,} letters"
        raise ValueError(
            f"{path} is not an Excel table that can be read in {limits}; {hint}"
        )
    return list(json.loads(result.stdout))


META_COLUMNS = (
    "id",
    "mmsi",
    "length",
    "width",
    "polarMode",
    "centerLookAngle",
    "heightspace",
    "widthspace",
    "path",
)
META_FILES = ("meta.csv", "meta.xls", "meta.xlsx")
"""File names in order of precedence: the first row of a chip counts."""

_Key = tuple[
    str, str, str
]  # category, folder below the category and file stem, each normalized


def normalize_folder_name(name: str) -> str:
    """Return a folder name in lower case, without digits, spaces, hyphens, underscores and the words ship and vessel.

    "Cargo", "01_Cargo" and "CargoShips" become "cargo".
    """
    return re.sub(
        r"(?<=.)(ship|vessel|boat)?s?$", "", re.sub(r"[\W\d_]", "", name.lower())
    )


class _Metadata:
    """The rows of the metadata tables of an archive.

    Attributes:
        rejected: file, line and reason of rows that cannot be parsed or contradict an
            earlier row.
        rows: the fields of a `FUSARChip` by category, folder below the category and
            stem, each normalized.
        used: keys of the rows that `find` returned.

    Raises:
        ValueError: a file is not a table with META_COLUMNS.
        OSError: a file cannot be read.
    """

    def __init__(self, paths: Sequence[pathlib.Path]) -> None:
        self.rejected: list[tuple[str, int, str]] = []
        self.rows: dict[_Key, dict[str, Any]] = {}
        self._keys = defaultdict[tuple[str, str], list[_Key]](
            list
        )  # by category and stem
        self.used: set[_Key] = set()
        for path in sorted(
            paths, key=lambda path: (META_FILES.index(path.name.lower()), path)
        ):
            for number, row in _read_rows(path):
                self._add(path, number, row)

    def find(self, category: str, subcategory: str, stem: str) -> dict[str, Any]:
        """Return the fields of a `FUSARChip` by name; empty if no row describes the chip.

        Args:
            category: category of the chip.
            subcategory: folder of the chip below its category. Copies without such
                folders have "", which matches the only row of that category and stem.
            stem: file name without suffix.
        """
        key = (
            normalize_folder_name(category),
            _normalize_path(subcategory),
            stem.lower(),
        )
        if not subcategory and len(keys := self._keys[key[0], key[2]]) == 1:
            key = keys[0]
        if key not in self.rows:
            return {}
        self.used.add(key)
        return self.rows[key]

    def _add(self, path: pathlib.Path, number: int, row: dict[str, str]) -> None:
        try:
            category, _, subcategory = (
                row["path"].strip().strip("\\/").replace("\\", "/").partition("/")
            )
            stem = pathlib.Path(row["id"].strip()).stem.lower()
            fields = {
                "mmsi": row["mmsi"].strip(),
                "length_m": float(row["length"]),
                "width_m": float(row["width"]),
                "polarization": row["polarMode"].strip(),
                "incidence_deg": float(row["centerLookAngle"]),
                "spacing_m": (float(row["heightspace"]) + float(row["widthspace"])) / 2,
            }
        except (KeyError, ValueError):
            self.rejected.append(
                (str(path), number, f"the row has no valid {', '.join(META_COLUMNS)}")
            )
            return
        key = (normalize_folder_name(category), _normalize_path(subcategory), stem)
        if key not in self.rows:
            self.rows[key] = fields
            self._keys[key[0], stem].append(key)
        elif self.rows[key] != fields:
            self.rejected.append(
                (str(path), number, "the row contradicts an earlier row of this chip")
            )


def _normalize_path(path: str) -> str:
    return re.sub(r"[\W_]", "", path.lower())


def _read_rows(path: pathlib.Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield line number and values by column of the rows of a table."""
    if path.suffix.lower() == ".csv":
        numbered = read_text_lines(path)
        delimiter = max(",\t;", key=(numbered[0][1] if numbered else "").count)
        try:
            rows = [
                (number, next(csv.reader([line], delimiter=delimiter)))
                for number, line in numbered
            ]
        except csv.Error as error:  # a cell is too long
            raise ValueError(f"{path} is not a CSV table: {error}") from error
    else:
        rows = list(enumerate(read_sheet(path), start=1))
    columns = [name.strip() for name in rows[0][1]] if rows else []
    missing = [name for name in META_COLUMNS if name not in columns]
    if missing:
        raise ValueError(f"{path} has no column {', '.join(missing)}")
    for number, cells in rows[1:]:
        yield number, dict(zip(columns, cells, strict=False))


FUSAR_CATEGORIES = (
    "Cargo",
    "DiveVessel",
    "Dredger",
    "Fishing",
    "HighSpeedCraft",
    "LawEnforce",
    "Other",
    "Passenger",
    "PortTender",
    "Reserved",
    "SAR",
    "Tanker",
    "Tug",
    "Unspecified",
    "WingInGrnd",
)
"""Category names; the number in the name of a chip is the position, from 1."""

CONTRADICTION = "category-index"
"""Flag of a chip whose name contradicts the folder that determines its category."""
FROM_NAME = "category-from-name"
"""Flag of a chip that no folder assigns to a category, so that its name does."""
NO_METADATA = "no-meta"
"""Flag of a chip that no row of a metadata table describes."""

_NAME = re.compile(r"Ship_C(\d+)S(\d+)N(\d+)", re.ASCII | re.IGNORECASE)
_CATEGORY_BY_NUMBER = dict(enumerate(FUSAR_CATEGORIES, 1))
_SUFFIXES = (".tiff", ".tif", ".png")  # in order of precedence among copies of a chip
_ALIASES = {
    "lawenforcement": "LawEnforce",
    "searchandrescue": "SAR",
    "winginground": "WingInGrnd",
}


def is_fusar_chip(path: pathlib.Path) -> bool:
    """Return whether a file has the name of a chip of FUSAR-Ship."""
    return path.suffix.lower() in _SUFFIXES and _NAME.fullmatch(path.stem) is not None


@dataclass(frozen=True)
class FUSARChip:
    """A chip with its metadata; values that no metadata table has are None.

    Attributes:
        name: Ship_CxxSyyNzzzz.
        subcategory: path of the folder below that of the category; "" if the file lies
            in the folder of the category.
        incidence_deg: look angle at the center in degrees.
        spacing_m: pixel spacing in meters, mean of both directions.
        flags: CONTRADICTION, FROM_NAME and NO_METADATA, where they apply.
    """

    path: pathlib.Path
    name: str
    category: str
    subcategory: str
    mmsi: str | None = None
    length_m: float | None = None
    width_m: float | None = None
    polarization: str | None = None
    incidence_deg: float | None = None
    spacing_m: float | None = None
    flags: tuple[str, ...] = ()

    @property
    def named_category(self) -> str | None:
        """Category by the number in the name; None if no category has this number."""
        return _CATEGORY_BY_NUMBER.get(int(self.name[6:].partition("S")[0]))


class FUSARChips:
    """The chips of FUSAR-Ship at any depth below a folder, with their metadata.

    Attributes:
        chips: the chips, sorted by path; none if the folder does not contain the data
            set.
        skipped: number of files and rows of the tables that are left out, by reason.
        rejected: file, line (0 for the whole file) and reason of files and rows that
            cannot be used.

    Raises:
        ValueError: a meta.csv or meta.xls is not the table of the data set, or the
            numbers of the categories seem to be others than the published ones.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = pathlib.Path(root)
        self.chips: list[FUSARChip] = []
        self.skipped: Counter[str] = Counter()
        files = list(iterate_files(self.root))
        layout = _Layout(files)
        metadata = _Metadata([self.root.joinpath(*parts) for parts in layout.tables])
        self.rejected = metadata.rejected
        for parts in files:
            self._add(parts, layout, metadata)
        copies = defaultdict[tuple[str, str, str], list[FUSARChip]](list)
        for chip in self.chips:
            copies[chip.category, chip.subcategory.lower(), chip.name].append(chip)
        chips: list[
            FUSARChip
        ] = []  # the original, where a chip exists in several file formats
        for group in copies.values():
            ranks = [_SUFFIXES.index(chip.path.suffix.lower()) for chip in group]
            chips += [
                chip
                for chip, rank in zip(group, ranks, strict=True)
                if rank == min(ranks)
            ]
        self.skipped["copy of a chip in another format"] = len(self.chips) - len(chips)
        self.chips = sorted(chips, key=lambda chip: chip.path)
        self.skipped["row of the meta table without a chip"] = len(metadata.rows) - len(
            metadata.used
        )
        self.skipped = +self.skipped
        self._check_numbers()

    def _add(self, parts: PathParts, layout: _Layout, metadata: _Metadata) -> None:
        """Add a file to the chips, the skipped or the rejected files."""
        folders = parts[:-1]
        path = self.root.joinpath(*parts)
        match = _NAME.fullmatch(path.stem)
        level = layout.category_level(folders)
        if path.suffix.lower() not in _SUFFIXES:
            self.skipped["not a .tiff or .png file"] += (
                match is not None or level is not None
            )
            return
        name_category = _CATEGORY_BY_NUMBER.get(int(match[1]) if match else 0)
        if level is not None:
            category = str(_category(folders[level]))
            subcategory = "/".join(folders[level + 1 :])
            flags = [] if name_category == category else [CONTRADICTION]
        elif name_category is not None:
            category = name_category
            subcategory = ""
            flags = [FROM_NAME]
        else:  # name the folder beside the categories, or else the last one
            beside = [
                name
                for depth, name in enumerate(folders)
                if folders[:depth] in layout.archives
            ]
            self.skipped[
                f"{(beside or folders or ('the folder itself',))[-1]} is not a ship"
                " category"
            ] += 1
            return
        if match is None:
            self.rejected.append((str(path), 0, "the name is not Ship_CxxSyyNzzzz"))
            return
        fields = metadata.find(category, subcategory, path.stem)
        flags += [] if fields else [NO_METADATA]
        name = f"Ship_C{match[1]}S{match[2]}N{match[3]}"
        self.chips.append(
            FUSARChip(path, name, category, subcategory, flags=tuple(flags), **fields)
        )

    def _check_numbers(self) -> None:
        """Raise ValueError if only the names tell the categories, and their numbers are 1, 2, ... without a gap."""
        numbers = sorted(
            {FUSAR_CATEGORIES.index(chip.category) + 1 for chip in self.chips}
        )
        is_guess = all({FROM_NAME, NO_METADATA} <= {*chip.flags} for chip in self.chips)
        # copies with all categories have 15 numbers, and those with the large ones have
        # gaps: Tanker is 12
        if (
            is_guess
            and 1 < len(numbers) == numbers[-1] < FUSAR_CATEGORIES.index("Tanker") + 1
        ):
            raise ValueError(
                f"the names of the chips have the categories C01 to C{numbers[-1]:02},"
                " and no folder and no table confirms them: they seem to be"
                " renumbered. Name the folders after the categories, such as Cargo"
            )


class _Layout:
    """The folders of an archive that name a category, judged by the names of the chips in them.

    A folder with the name of a category is none if most chips below it lie in folders
    of other categories that agree better with the names of the chips, or if it is
    called SAR and most names have another category.

    Attributes:
        tables: files with the name of a metadata table in a folder that contains chips.
        archives: folders that contain folders of categories.
    """

    def __init__(self, files: Sequence[PathParts]) -> None:
        images = [parts for parts in files if parts[-1].lower().endswith(_SUFFIXES)]
        matches = [
            (parts[:-1], _NAME.fullmatch(pathlib.Path(parts[-1]).stem))
            for parts in images
        ]
        chips = [(folders, int(match[1])) for folders, match in matches if match]
        ancestors = {
            folders[:depth] for folders, _ in chips for depth in range(len(folders) + 1)
        }
        self.tables = [
            parts
            for parts in files
            if parts[-1].lower() in META_FILES and parts[:-1] in ancestors
        ]
        self._no_categories = _find_other_folders(chips)
        levels = [(folders, self.category_level(folders)) for folders, _ in chips]
        self.archives = {
            folders[:level] for folders, level in levels if level is not None
        }

    def category_level(self, folders: PathParts) -> int | None:
        """Return the position of the folder that names the category; None if no folder does."""
        levels = (
            level
            for level in _category_levels(folders)
            if folders[: level + 1] not in self._no_categories
        )
        return next(levels, None)


def _find_other_folders(chips: Iterable[tuple[PathParts, int]]) -> set[PathParts]:
    """Return the folders that have the name of a category but another meaning, by the numbers in the chips' names."""
    total: Counter[PathParts] = Counter()
    agreeing: Counter[PathParts] = Counter()  # names that agree with the folder
    agreeing_below: Counter[PathParts] = (
        Counter()
    )  # names that agree with the next folder below it
    names_below = defaultdict[PathParts, set[str]](set)
    siblings = defaultdict[PathParts, set[str]](set)
    for folders, index in chips:
        expected = _CATEGORY_BY_NUMBER.get(index)
        levels = _category_levels(folders)
        for level, below in zip(levels, [*levels[1:], None], strict=False):
            folder = folders[: level + 1]
            category = _category(folders[level])
            siblings[folders[:level]].add(folders[level])
            if below is not None:
                names_below[folder].add(folders[below])
                agreeing_below[folder] += _category(folders[below]) == expected
            elif category != "SAR":
                continue
            total[folder] += 1
            agreeing[folder] += category == expected
    others = set()
    for folder in total:
        is_alone = len(siblings[folder[:-1]]) == 1 and len(names_below[folder]) > 1
        is_no_evidence = agreeing[folder] == agreeing_below[folder] == 0 and is_alone
        is_sar_image = (
            _category(folder[-1]) == "SAR" and 2 * agreeing[folder] < total[folder]
        )
        if is_no_evidence or is_sar_image or agreeing_below[folder] > agreeing[folder]:
            others.add(folder)
    return others


def _category_levels(folders: PathParts) -> list[int]:
    return [level for level, folder in enumerate(folders) if _category(folder)]


@functools.cache
def _category(folder: str) -> str | None:
    """Return the category that a folder name spells, or None."""
    name = normalize_folder_name(folder)
    spellings = {
        normalize_folder_name(category): category for category in FUSAR_CATEGORIES
    } | _ALIASES
    return spellings.get(name)
