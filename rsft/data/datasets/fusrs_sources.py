"""The two archives of FUSRS v2: find them, read them, and refuse those that would give a wrong chip store."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rsft.data.chips.builder import source_names
from rsft.data.chips.store import DATASET
from rsft.data.datasets._fusar_files import CONTRADICTION, FUSARChip, FUSARChips
from rsft.data.datasets._srsdd_files import SRSDDShip, SRSDDShips
from rsft.data.datasets.common import translate_dataset_errors
from rsft.errors import DataError, RequestError
from rsft.types import Progress, Rejection
from rsft.utils.archives import open_source_tree

FUSAR_NAME, SRSDD_NAME = "FUSAR-Ship", "SRSDD"
"""Names of the archives in the manifest and in messages."""

ALLOW_PARTIAL_HINT = "add --allow-partial to build from the other archive alone"

_READERS = {FUSAR_NAME: FUSARChips, SRSDD_NAME: SRSDDShips}
_OPTIONS = {FUSAR_NAME: "--fusar", SRSDD_NAME: "--srsdd"}
_HINTS = {
    FUSAR_NAME: "give the folder that contains Cargo, DiveVessel, Dredger, Fishing and so on, with files "
    "Ship_CxxSyyNzzzz.tiff or .png, or the archive of it",
    SRSDD_NAME: "give the folder that contains the images and their label files, or the archive of it",
}


@dataclass
class FUSRSSources:
    """The archives, as read; an archive that is left out has nothing.

    Attributes:
        chips: the chips of FUSAR-Ship.
        ships: the ships of SRSDD.
        images: the images of SRSDD with labels.
        skipped: number of inputs that are left out, by archive and reason.
        rejected: inputs of both archives that cannot be used.
    """

    chips: Sequence[FUSARChip] = ()
    ships: Sequence[SRSDDShip] = ()
    images: Sequence[Path] = ()
    skipped: Counter[str] = field(default_factory=Counter)
    rejected: list[Rejection] = field(default_factory=list)


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
    folders = [
        folder
        for search_dir in (parent, parent / "raw")
        if search_dir.is_dir()
        for folder in sorted(search_dir.iterdir())
        if folder.is_dir() and not folder.name.startswith(".") and folder.name != "raw"
    ]
    candidates = [
        folder
        for folder in folders
        if folder != root.resolve() and not (folder / DATASET).exists() and _contains(folder, name)
    ]
    if len(candidates) == 1:
        return candidates[0]
    if not candidates and allow_partial:
        return None
    names = ", ".join(map(str, candidates))
    fault = f"{len(candidates)} folders contain it: {names}" if candidates else "no folder contains it"
    hint = f"give its folder with {_OPTIONS[name]}" + ("" if candidates else f", or {ALLOW_PARTIAL_HINT}")
    raise RequestError(f"{name}: {fault}", f"{parent}, {parent / 'raw'}", hint)


def _contains(folder: Path, name: str) -> bool:
    try:
        files = _READERS[name](folder)
    except PermissionError:
        return False
    except ValueError:  # the archive has a faulty table, which is reported when it is opened
        return True
    return bool(files.chips if isinstance(files, FUSARChips) else files.ships)


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
    sources = FUSRSSources()
    with ExitStack() as stack:
        for name, path, work_name in zip(_READERS, (fusar, srsdd), source_names(root), strict=True):
            if path is None:
                continue
            folder = stack.enter_context(open_source_tree(path, root.with_name(work_name), progress))
            with translate_dataset_errors(name, path, _HINTS[name]):
                files = _READERS[name](folder)
            if isinstance(files, FUSARChips):
                sources.chips = files.chips
                if not allow_partial:
                    _check_names(files.chips, path)
            else:
                sources.ships, sources.images = files.ships, files.images
            if not (sources.chips if name == FUSAR_NAME else sources.images):
                raise RequestError(f"the folder does not contain {name}", path, _HINTS[name])
            sources.skipped.update({f"{name}: {reason}": count for reason, count in files.skipped.items()})
            sources.rejected += files.rejected
        yield sources


def _check_names(chips: Sequence[FUSARChip], location: Path) -> None:
    """Raise an error if most file names contradict their folder: then the folders are not the categories."""
    contradicting = [chip for chip in chips if CONTRADICTION in chip.flags]
    if 2 * len(contradicting) > len(chips):
        example = contradicting[0]
        message = f"{len(contradicting):,} of {len(chips):,} file names contradict their folder"
        hint = f"sort the files as published; {example.path.name} is in the folder of {example.category}"
        raise DataError(message, location, f"{hint}. Add --allow-partial to take the categories of the folders")
