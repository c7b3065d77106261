"""The chips of FUSAR-Ship, with categories by folder and name."""

import functools
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rsft.data.datasets.formats.fusar_metadata import (
    META_FILES,
    Metadata,
    normalize_folder_name,
)
from rsft.data.datasets.formats.text_files import (
    PathOrText,
    PathParts,
    iterate_files,
)

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
_CATEGORY_BY_SPELLING = {normalize_folder_name(name): name for name in FUSAR_CATEGORIES}
_CATEGORY_BY_SPELLING |= {
    "lawenforcement": "LawEnforce",
    "searchandrescue": "SAR",
    "winginground": "WingInGrnd",
}


def is_fusar_chip(path: Path) -> bool:
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

    path: Path
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

    def __init__(self, root: PathOrText) -> None:
        self.root = Path(root)
        self.skipped: Counter[str] = Counter()
        files = list(iterate_files(self.root))
        self._layout = _Layout(files)
        tables = [self.root.joinpath(*parts) for parts in self._layout.tables]
        self._metadata = Metadata(tables)
        self.rejected = self._metadata.rejected
        chips = []
        for parts in files:
            chip = self._read_chip(parts)
            if chip is not None:
                chips.append(chip)
        self.chips = _remove_copies(chips)
        self.skipped["copy of a chip in another format"] = len(chips) - len(self.chips)
        unused = len(self._metadata.rows) - len(self._metadata.used)
        self.skipped["row of the meta table without a chip"] = unused
        self.skipped = +self.skipped
        self._check_numbers()

    def _read_chip(self, parts: PathParts) -> FUSARChip | None:
        """Return a chip; count another file as skipped or rejected."""
        folders = parts[:-1]
        path = self.root.joinpath(*parts)
        match = _NAME.fullmatch(path.stem)
        level = self._layout.category_level(folders)
        if path.suffix.lower() not in _SUFFIXES:
            is_of_the_data_set = match is not None or level is not None
            self.skipped["not a .tiff or .png file"] += is_of_the_data_set
            return None
        named = _CATEGORY_BY_NUMBER.get(int(match[1])) if match else None
        subcategory = ""
        flags: tuple[str, ...] = ()
        if level is not None:
            category = _category(folders[level])
            subcategory = "/".join(folders[level + 1 :])
            if named != category:
                flags += (CONTRADICTION,)
        else:
            category = named
            flags += (FROM_NAME,)
        if category is None:
            name = self._layout.describe_folder(folders)
            self.skipped[f"{name} is not a ship category"] += 1
            return None
        if match is None:
            self.rejected.append((str(path), 0, "the name is not Ship_CxxSyyNzzzz"))
            return None
        fields = self._metadata.find(category, subcategory, path.stem)
        if not fields:
            flags += (NO_METADATA,)
        name = f"Ship_C{match[1]}S{match[2]}N{match[3]}"
        return FUSARChip(path, name, category, subcategory, flags=flags, **fields)

    def _check_numbers(self) -> None:
        """Check that the numbers in the names are those of the categories.

        Copies with all categories have 15 numbers, and those with the large categories
        have gaps, because Tanker is 12.

        Raises:
            ValueError: only the names tell the categories, and their numbers are 1, 2,
                ... without a gap.
        """
        if not all({FROM_NAME, NO_METADATA} <= {*chip.flags} for chip in self.chips):
            return
        categories = {chip.category for chip in self.chips}
        count = len(categories)
        is_renumbered = categories == {*FUSAR_CATEGORIES[:count]}
        if is_renumbered and 1 < count <= FUSAR_CATEGORIES.index("Tanker"):
            raise ValueError(
                f"the names of the chips have the categories C01 to C{count:02},"
                " and no folder and no table confirms them: they seem to be"
                " renumbered. Name the folders after the categories, such as Cargo"
            )


def _remove_copies(chips: Iterable[FUSARChip]) -> list[FUSARChip]:
    """Return the originals of chips that exist in several file formats, by path."""
    formats = defaultdict[tuple[str, str, str], list[FUSARChip]](list)
    for chip in chips:
        formats[chip.category, chip.subcategory.lower(), chip.name].append(chip)
    originals = []
    for group in formats.values():
        ranks = [_SUFFIXES.index(chip.path.suffix.lower()) for chip in group]
        best = min(ranks)
        originals += [x for x, rank in zip(group, ranks, strict=True) if rank == best]
    return sorted(originals, key=lambda chip: chip.path)


class _Layout:
    """The folders of an archive that name a category.

    A folder with the name of a category is none if most chips below it lie in folders
    of other categories that agree better with the names of the chips, or if it is
    called SAR and most names have another category.

    Attributes:
        tables: files with the name of a metadata table in a folder that contains chips.
    """

    def __init__(self, files: Sequence[PathParts]) -> None:
        chips = []
        with_chips: set[PathParts] = set()
        for parts in files:
            match = _NAME.fullmatch(Path(parts[-1]).stem)
            if match and parts[-1].lower().endswith(_SUFFIXES):
                folders = parts[:-1]
                chips.append((folders, _CATEGORY_BY_NUMBER.get(int(match[1]))))
                with_chips.update(folders[:depth] for depth in range(len(parts)))
        self.tables = [
            parts
            for parts in files
            if parts[-1].lower() in META_FILES and parts[:-1] in with_chips
        ]
        self._no_categories = _find_other_folders(chips)
        self._archives = set[PathParts]()
        for folders, _ in chips:
            level = self.category_level(folders)
            if level is not None:
                self._archives.add(folders[:level])

    def category_level(self, folders: PathParts) -> int | None:
        """Return the position of the folder that names the category, or None."""
        for level in _category_levels(folders):
            if folders[: level + 1] not in self._no_categories:
                return level
        return None

    def describe_folder(self, folders: PathParts) -> str:
        """Return the name of the folder beside the categories, or else of the last."""
        for depth, name in enumerate(folders):
            if folders[:depth] in self._archives:
                return name
        return folders[-1] if folders else "the folder itself"


def _find_other_folders(
    chips: Iterable[tuple[PathParts, str | None]],
) -> set[PathParts]:
    """Return the folders that have the name of a category but another meaning.

    Args:
        chips: the folders of each chip, and the category in its name.
    """
    total: Counter[PathParts] = Counter()
    agreeing: Counter[PathParts] = Counter()  # names that agree with the folder
    agreeing_below: Counter[PathParts] = Counter()  # with the next folder below it
    names_below = defaultdict[PathParts, set[str]](set)
    siblings = defaultdict[PathParts, set[str]](set)
    for folders, expected in chips:
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
    for folder, count in total.items():
        is_sar = _category(folder[-1]) == "SAR"
        has_no_evidence = agreeing[folder] == agreeing_below[folder] == 0
        is_alone = len(siblings[folder[:-1]]) == 1 and len(names_below[folder]) > 1
        if (
            agreeing_below[folder] > agreeing[folder]
            or (is_sar and 2 * agreeing[folder] < count)
            or (has_no_evidence and is_alone)
        ):
            others.add(folder)
    return others


def _category_levels(folders: PathParts) -> list[int]:
    return [level for level, folder in enumerate(folders) if _category(folder)]


@functools.cache
def _category(folder: str) -> str | None:
    """Return the category that a folder name spells, or None."""
    return _CATEGORY_BY_SPELLING.get(normalize_folder_name(folder))
