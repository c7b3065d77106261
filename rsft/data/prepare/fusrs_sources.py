"""The two archives of FUSRS v2: find them, read them, and refuse those that would give a wrong chip store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from torchgeo.datasets.errors import DatasetNotFoundError

from rsft.data.chips.builder import source_names
from rsft.data.chips.store import DATASET
from rsft.data.datasets._fusar_files import CONTRADICTION, FUSARChip
from rsft.data.datasets._srsdd_files import SRSDDShip
from rsft.data.datasets.fusar_ship import FUSARShip
from rsft.data.datasets.srsdd import SRSDD
from rsft.data.prepare.common import translate_dataset_errors
from rsft.errors import DataError, RequestError
from rsft.types import Progress, Rejection
from rsft.utils.archives import open_source_tree

FUSAR_NAME, SRSDD_NAME = "FUSAR-Ship", "SRSDD"
"""Names of the archives in the manifest and in messages."""


ALLOW_PARTIAL_HINT = "add --allow-partial to build from the other archive alone"


_HINTS = {
    FUSAR_NAME: "give the folder that contains Cargo, DiveVessel, Dredger, Fishing and so on, with files "
    "Ship_CxxSyyNzzzz.tiff or .png, or the archive of it",
    SRSDD_NAME: "give the folder that contains the images and their label files, or the archive of it",
}


_OPTIONS = {FUSAR_NAME: "--fusar", SRSDD_NAME: "--srsdd"}


@dataclass(frozen=True)
class FUSRSSources:
    """The archives, as read; None for an archive that is left out.

    Attributes:
        fusar: FUSAR-Ship.
        srsdd: all splits of SRSDD.
    """

    fusar: FUSARShip | None
    srsdd: SRSDD | None

    @property
    def chips(self) -> Sequence[FUSARChip]:
        """The chips of FUSAR-Ship."""
        return self.fusar.chips if self.fusar else []

    @property
    def ships(self) -> Sequence[SRSDDShip]:
        """The ships of SRSDD."""
        return self.srsdd.ships if self.srsdd else []

    @property
    def images(self) -> Sequence[Path]:
        """The images of SRSDD with labels."""
        return self.srsdd.images if self.srsdd else []

    @property
    def skipped(self) -> Counter[str]:
        """Number of inputs that are left out, by archive and reason."""
        archives = ((FUSAR_NAME, self.fusar), (SRSDD_NAME, self.srsdd))
        return Counter(
            {
                f"{name}: {reason}": count
                for name, archive in archives
                if archive
                for reason, count in archive.skipped.items()
            }
        )

    @property
    def rejected(self) -> list[Rejection]:
        """Inputs of both archives that cannot be used."""
        return [rejection for archive in (self.fusar, self.srsdd) if archive for rejection in archive.rejected]


def find_fusrs_source(name: str, root: Path, allow_partial: bool) -> Path | None:
    """Return the one folder beside `root`, or in raw/ there, that contains an archive.

    Args:
        name: FUSAR_NAME or SRSDD_NAME.
        root: folder of the chip store.
        allow_partial: return None if no folder contains it.

    Raises:
        RequestError: no folder or several folders contain it.
    """
    parent = root.resolve().parent
    candidates = [
        folder
        for search_dir in (parent, parent / "raw")
        if search_dir.is_dir()
        for folder in sorted(search_dir.iterdir())
        if _is_candidate(folder, root) and _contains(folder, name)
    ]
    if len(candidates) == 1:
        return candidates[0]
    if not candidates and allow_partial:
        return None
    names = ", ".join(map(str, candidates))
    fault = f"{len(candidates)} folders contain it: {names}" if candidates else "no folder contains it"
    hint = f"give its folder with {_OPTIONS[name]}" + ("" if candidates else f", or {ALLOW_PARTIAL_HINT}")
    raise RequestError(f"{name}: {fault}", f"{parent}, {parent / 'raw'}", hint)


@contextmanager
def open_fusrs_sources(
    root: Path, fusar: Path | None, srsdd: Path | None, allow_partial: bool, progress: Progress | None
) -> Iterator[FUSRSSources]:
    """Read the archives; compressed ones are extracted beside `root` until the end of the block.

    Args:
        root: folder of the chip store.
        fusar: folder or archive of FUSAR-Ship; None to leave it out.
        srsdd: folder or archive of SRSDD; None to leave it out.
        allow_partial: accept FUSAR-Ship if most of its file names contradict their folders.
        progress: called while archives are extracted.

    Yields:
        The archives.

    Raises:
        RequestError: a folder does not contain its archive.
        DataError: an archive cannot be used.
    """
    with ExitStack() as stack:
        chips = ships = None
        if fusar is not None:
            folder = stack.enter_context(open_source_tree(fusar, root.with_name(source_names(root)[0]), progress))
            with translate_dataset_errors(FUSAR_NAME, fusar, _HINTS[FUSAR_NAME]):
                chips = FUSARShip(folder)
            if not allow_partial:
                _check_names(chips, fusar)
        if srsdd is not None:
            folder = stack.enter_context(open_source_tree(srsdd, root.with_name(source_names(root)[1]), progress))
            with translate_dataset_errors(SRSDD_NAME, srsdd, _HINTS[SRSDD_NAME]):
                ships = SRSDD(folder, split="all")
        yield FUSRSSources(chips, ships)


def _check_names(fusar: FUSARShip, location: Path) -> None:
    """Raise an error if most file names contradict their folder: then the folders are not the categories."""
    contradicting = [chip for chip in fusar.chips if CONTRADICTION in chip.flags]
    if 2 * len(contradicting) <= len(fusar.chips):
        return
    example = contradicting[0]
    message = f"{len(contradicting):,} of {len(fusar.chips):,} file names contradict their folder"
    hint = f"sort the files as published; {example.path.name} is in the folder of {example.category}"
    raise DataError(message, location, f"{hint}. Add --allow-partial to take the categories of the folders")


def _is_candidate(folder: Path, root: Path) -> bool:
    is_visible = folder.is_dir() and not folder.name.startswith(".") and folder.name != "raw"
    return is_visible and folder != root.resolve() and not (folder / DATASET).exists()


def _contains(folder: Path, name: str) -> bool:
    try:
        return bool(FUSARShip(folder).chips if name == FUSAR_NAME else SRSDD(folder, split="all").ships)
    except (DatasetNotFoundError, PermissionError):
        return False
    except ValueError:  # the archive has a faulty table, which is reported when it is opened
        return True
