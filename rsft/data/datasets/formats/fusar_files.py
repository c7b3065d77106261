"""The chips of FUSAR-Ship, with categories by folder and name."""

import functools
import re
from collections import Counter
from collections.abc import Iterable
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
        return _named_category(self.name)


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
        names = [parts for parts in files if is_fusar_chip(Path(parts[-1]))]
        self._kinds = _find_kind_folders(names)
        self._metadata = Metadata(self._find_tables(files, names))
        self.rejected = self._metadata.rejected
        chips = []
        for parts in files:
            chip = self._read_chip(parts)
            if chip:
                chips.append(chip)
        self.chips = _remove_copies(chips)
        self.skipped["copy of a chip in another format"] = len(chips) - len(self.chips)
        unused = len(self._metadata.rows) - len(self._metadata.used)
        self.skipped["row of the meta table without a chip"] = unused
        self.skipped = +self.skipped
        self._check_numbers()

    def _find_tables(
        self, files: Iterable[PathParts], chips: Iterable[PathParts]
    ) -> list[Path]:
        """Return the metadata tables in the folders that contain chips."""
        with_chips = {parts[:depth] for parts in chips for depth in range(len(parts))}
        return [
            self.root.joinpath(*parts)
            for parts in files
            if parts[-1].lower() in META_FILES and parts[:-1] in with_chips
        ]

    def _category_level(self, folders: PathParts) -> int | None:
        """Return the position of the folder that names the category, or None."""
        for level, folder in enumerate(folders):
            if _category(folder) and folders[: level + 1] not in self._kinds:
                return level
        return None

    def _read_chip(self, parts: PathParts) -> FUSARChip | None:
        """Return a chip; count another file as skipped or rejected."""
        folders = parts[:-1]
        path = self.root.joinpath(*parts)
        match = _NAME.fullmatch(path.stem)
        level = self._category_level(folders)
        if path.suffix.lower() not in _SUFFIXES:
            is_of_the_data_set = match is not None or level is not None
            self.skipped["not a .tiff or .png file"] += is_of_the_data_set
            return None
        category = named = _named_category(path.name)
        subcategory = ""
        flags: tuple[str, ...] = (FROM_NAME,)
        if level is not None:
            category = _category(folders[level])
            subcategory = "/".join(folders[level + 1 :])
            flags = () if named == category else (CONTRADICTION,)
        if not category:
            name = folders[-1] if folders else "the folder itself"
            self.skipped[f"{name} is not a ship category"] += 1
            return None
        if not match:
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
    best: dict[tuple[str, str, str], int] = {}
    ranked = []
    for chip in chips:
        key = chip.category, chip.subcategory.lower(), chip.name
        rank = _SUFFIXES.index(chip.path.suffix.lower())
        best[key] = min(rank, best.get(key, rank))
        ranked.append((key, rank, chip))
    originals = [chip for key, rank, chip in ranked if rank == best[key]]
    return sorted(originals, key=lambda chip: chip.path)


def _find_kind_folders(chips: Iterable[PathParts]) -> set[PathParts]:
    """Return the folders called SAR that name the kind of image, not a category.

    Most names of the chips below it have another category, or a folder below it has
    the category of such a name.
    """
    kinds = set()
    votes: Counter[PathParts] = Counter()
    for *folders, name in chips:
        named = _named_category(name)
        categories = list(map(_category, folders))
        for level, category in enumerate(categories):
            if category == "SAR":
                folder = tuple(folders[: level + 1])
                votes[folder] += 1 if named == "SAR" else -1
                if named not in ("SAR", None) and named in categories[level + 1 :]:
                    kinds.add(folder)
    return kinds.union(folder for folder, balance in votes.items() if balance < 0)


def _named_category(name: str) -> str | None:
    """Return the category by the number in a name; None if no category has it."""
    match = _NAME.match(name)
    return _CATEGORY_BY_NUMBER.get(int(match[1])) if match else None


@functools.cache
def _category(folder: str) -> str | None:
    """Return the category that a folder name spells, or None."""
    return _CATEGORY_BY_SPELLING.get(normalize_folder_name(folder))
