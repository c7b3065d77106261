"""Chips of FUSAR-Ship: their files, categories and metadata."""

from __future__ import annotations

import functools
import os
import pathlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from .files import PathParts, iterate_files
from .fusar_metadata import META_FILES, FUSARMetadata, normalize_folder_name

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
_SUFFIXES = (".tiff", ".tif", ".png")  # in order of precedence among copies of a chip
_ALIASES = {"lawenforcement": "LawEnforce", "searchandrescue": "SAR", "winginground": "WingInGrnd"}


@dataclass(frozen=True)
class FUSARChip:
    """A chip with its metadata; values that no metadata table has are None.

    Attributes:
        path: the file.
        name: Ship_CxxSyyNzzzz.
        category: ship category.
        subcategory: path of the folder below that of the category; "" if the file lies in the folder of the category.
        mmsi: MMSI of the vessel.
        length_m: length of the vessel in meters.
        width_m: width of the vessel in meters.
        polarization: polarization mode.
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


class FUSARChips:
    """The chips of FUSAR-Ship below a folder, with their metadata.

    Args:
        root: a folder at any depth above the chips.

    Attributes:
        root: the folder.
        chips: the chips, sorted by path; none if the folder does not contain the data set.
        skipped: number of files and rows of the tables that are left out, by reason.
        rejected: file, line (0 for the whole file) and reason of files and rows that cannot be used.

    Raises:
        ValueError: a meta.csv or meta.xls is not the table of the data set.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = pathlib.Path(root)
        self.chips: list[FUSARChip] = []
        self.skipped: Counter[str] = Counter()
        files = list(iterate_files(self.root)) if self.root.is_dir() else []
        layout = _Layout(files)
        metadata = FUSARMetadata([self.root.joinpath(*parts) for parts in layout.tables])
        self.rejected = metadata.rejected
        for parts in files:
            self._add(parts, layout, metadata)
        self._drop_copies()
        self.skipped["row of the meta table without a chip"] = metadata.unused
        self.skipped = +self.skipped

    def _add(self, parts: PathParts, layout: _Layout, metadata: FUSARMetadata) -> None:
        """Add a file to the chips, the skipped or the rejected files."""
        *folders, _ = parts
        path = self.root.joinpath(*parts)
        match, level = _NAME.fullmatch(path.stem), layout.category_level(tuple(folders))
        if path.suffix.lower() not in _SUFFIXES:
            self.skipped["not a .tiff or .png file"] += match is not None or level is not None
            return
        index = int(match[1]) if match else 0
        if level is not None:
            category, flags = str(_category(folders[level])), []
            if match is None:
                self.rejected.append((str(path), 0, "the name is not Ship_CxxSyyNzzzz"))
                return
            if FUSAR_CATEGORIES[index - 1 : index] != (category,):
                flags.append(CONTRADICTION)
        elif match and 1 <= index <= len(FUSAR_CATEGORIES):
            category, flags = FUSAR_CATEGORIES[index - 1], [FROM_NAME]
        else:
            self.skipped[f"{layout.other_folder(tuple(folders))} is not a ship category"] += 1
            return
        subcategory = "/".join(folders[level + 1 :]) if level is not None else ""
        fields = metadata.find(category, subcategory, path.stem)
        flags += [] if fields else [NO_METADATA]
        name = f"Ship_C{match[1]}S{match[2]}N{match[3]}"
        self.chips.append(FUSARChip(path, name, category, subcategory, flags=tuple(flags), **fields))

    def _drop_copies(self) -> None:
        """Keep the original where a chip exists in several file formats."""

        def identity(chip: FUSARChip) -> tuple[str, str, str]:
            return chip.category, chip.subcategory.lower(), chip.name

        def rank(chip: FUSARChip) -> int:
            return _SUFFIXES.index(chip.path.suffix.lower())

        best: dict[tuple[str, str, str], int] = {}
        for chip in self.chips:
            best[identity(chip)] = min(rank(chip), best.get(identity(chip), len(_SUFFIXES)))
        chips = [chip for chip in self.chips if rank(chip) == best[identity(chip)]]
        self.skipped["copy of a chip in another format"] = len(self.chips) - len(chips)
        self.chips = sorted(chips, key=lambda chip: chip.path)


class _Layout:
    """The folders of an archive that name a category, judged by the names of the chips in them.

    A folder with the name of a category is none if most chips below it lie in folders of other categories that agree
    better with the names of the chips, or if it is called SAR and most names have another category.

    Args:
        files: parts of the path of every file.

    Attributes:
        tables: files with the name of a metadata table in a folder that contains chips.
    """

    def __init__(self, files: Iterable[PathParts]) -> None:
        files = list(files)
        chips = [(parts[:-1], int(match[1])) for parts in files if (match := _match_name(parts[-1]))]
        ancestors = {folders[:depth] for folders, _ in chips for depth in range(len(folders) + 1)}
        self.tables = [parts for parts in files if parts[-1].lower() in META_FILES and parts[:-1] in ancestors]
        self._no_categories = _find_other_folders(chips)
        levels = [(folders, self.category_level(folders)) for folders, _ in chips]
        self._archives = {folders[:level] for folders, level in levels if level is not None}

    def category_level(self, folders: PathParts) -> int | None:
        """Return the position of the folder that names the category; None if no folder does."""
        for level in _category_levels(folders):
            if folders[: level + 1] not in self._no_categories:
                return level
        return None

    def other_folder(self, folders: PathParts) -> str:
        """Return the name of a folder that is no category: the one beside the categories, or else the last one."""
        for depth in range(len(folders) - 1, -1, -1):
            if folders[:depth] in self._archives:
                return folders[depth]
        return folders[-1] if folders else "the folder itself"


def _find_other_folders(chips: Iterable[tuple[PathParts, int]]) -> set[PathParts]:
    """Return the folders that have the name of a category but another meaning.

    Args:
        chips: folders of each chip, and the number of the category in its name.
    """
    total: Counter[PathParts] = Counter()
    agreeing: Counter[PathParts] = Counter()  # names that agree with the folder
    agreeing_below: Counter[PathParts] = Counter()  # names that agree with the next folder below it
    names_below, siblings = defaultdict[PathParts, set[str]](set), defaultdict[PathParts, set[str]](set)
    for folders, index in chips:
        expected = dict(enumerate(FUSAR_CATEGORIES, 1)).get(index)
        levels = _category_levels(folders)
        for level, below in zip(levels, [*levels[1:], None], strict=False):
            folder, category = folders[: level + 1], _category(folders[level])
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
        is_sar_image = _category(folder[-1]) == "SAR" and 2 * agreeing[folder] < total[folder]
        if is_no_evidence or is_sar_image or agreeing_below[folder] > agreeing[folder]:
            others.add(folder)
    return others


def _category_levels(folders: PathParts) -> list[int]:
    return [level for level, folder in enumerate(folders) if _category(folder)]


@functools.cache
def _category(folder: str) -> str | None:
    """Return the category that a folder name spells, or None."""
    name = normalize_folder_name(folder)
    spellings = {normalize_folder_name(category): category for category in FUSAR_CATEGORIES} | _ALIASES
    return spellings.get(name)


def _match_name(filename: str) -> re.Match[str] | None:
    path = pathlib.Path(filename)
    return _NAME.fullmatch(path.stem) if path.suffix.lower() in _SUFFIXES else None
