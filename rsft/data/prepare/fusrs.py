"""Build a chip store of FUSRS v2 from FUSAR-Ship and SRSDD, by the clean or the published protocol.

The two archives of FUSRS v2: find them, read them, and refuse those that would give a wrong chip store.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

from torchgeo.datasets.errors import DatasetNotFoundError

from rsft.data.audit.findings import AUDIT_FILE, write_audits
from rsft.data.audit.list_audit import find_fusrs_lists
from rsft.data.audit.store_audit import audit_store
from rsft.data.chips.builder import StoreDescription, build_store, check_root_is_free, find_finished_store, source_names
from rsft.data.chips.store import DATASET, ChipStore
from rsft.data.datasets._fusar_files import CONTRADICTION, FUSARChip
from rsft.data.datasets._srsdd_files import CLASSES, HEAD_CLASSES, TAIL_CLASSES, SRSDDShip
from rsft.data.datasets.fusar_ship import FUSARShip
from rsft.data.datasets.fusrs import FUSRS, LIST_VERSIONS
from rsft.data.datasets.srsdd import SRSDD
from rsft.data.prepare.common import format_prepare_command, translate_dataset_errors
from rsft.data.prepare.fusrs_protocols import ProtocolRecords, clean_records, published_records
from rsft.errors import DataError, RequestError
from rsft.types import Progress, Rejection
from rsft.utils.archives import open_source_tree
from rsft.utils.download import download

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


FUSRSProtocol = Literal["clean", "published"]

TEST_SHARE = 0.25
"""Share of each class in the test split of the clean protocol. The published lists have 1,700 test rows of 6,961."""
VAL_SHARES = {"clean": 0.1, "published": 0.0}
"""Default share of the validation split, by protocol."""


def prepare_fusrs(
    root: Path,
    *,
    fusar: Path | None = None,
    srsdd: Path | None = None,
    protocol: FUSRSProtocol = "clean",
    lists: Path | None = None,
    classes: int = 4,
    val: float | None = None,
    seed: int = 0,
    allow_partial: bool = False,
    jobs: int = 2,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> ChipStore:
    """Build the chip store and write its audit to audit.json.

    Args:
        root: folder of the chip store.
        fusar: folder or archive of FUSAR-Ship; by default the only folder beside `root` or in raw/ that contains it.
        srsdd: folder or archive of SRSDD; the default is found like that of `fusar`.
        protocol: "published" takes rows, splits and labels from the authors' lists, one chip per row with repeated
            rows. "clean" takes the categories of the archives, each content once, and keeps every SRSDD image
            and FUSAR-Ship vessel in one split.
        lists: folder of the authors' lists; by default they are downloaded to fusrs_lists/ beside `root`.
        classes: 4, or 5 with the class "other".
        val: share of each class for validation ("published": of the training rows); by default `VAL_SHARES`.
        seed: seed of every random choice.
        allow_partial: build even if one archive is missing or gives no chip, or if most file names of FUSAR-Ship
            contradict their folders.
        jobs: number of processes.
        overwrite: replace an existing chip store at `root`.
        progress: called after each chip.

    Returns:
        The chip store.

    Raises:
        RequestError: `root` is not empty, a source is missing or ambiguous, or an argument is out of range.
        DataError: a source or list cannot be used, a source gives no chip, most file names contradict their folders,
            or the lists cannot be downloaded.
    """
    val = VAL_SHARES[protocol] if val is None else val
    _check_arguments(classes, val, protocol, lists)
    try:
        fusar = fusar or find_fusrs_source(FUSAR_NAME, root, allow_partial)
        srsdd = srsdd or find_fusrs_source(SRSDD_NAME, root, allow_partial)
    except RequestError:
        check_root_is_free(root, overwrite)  # the more important error
        raise
    if protocol == "published":
        lists = lists or download_fusrs_lists(root.resolve().parent / "fusrs_lists", classes, progress)
        find_fusrs_lists(lists, classes)
    inputs = {"fusar": fusar, "srsdd": srsdd, "protocol": protocol, "lists": lists, "classes": classes, "val": val}
    command = format_prepare_command(
        "fusrs", root=root, **inputs, seed=seed, allow_partial=True if allow_partial else None
    )
    if finished := find_finished_store(root, command, overwrite):
        if not (root / AUDIT_FILE).is_file():  # rsft 0.1 wrote it after the store, and was killed in between
            _write_audit(finished, root, jobs, progress)
        return finished
    finish = partial(_write_audit, root=root, jobs=jobs, progress=progress)
    with open_fusrs_sources(root, fusar, srsdd, allow_partial, progress) as sources:
        if lists is not None:
            result = published_records(sources, lists, CLASSES[classes], val, seed)
        else:
            shares = {"train": 1 - val - TEST_SHARE, "val": val, "test": TEST_SHARE}
            result = clean_records(sources, CLASSES[classes], shares, seed, jobs)
        description = _describe_store(result, sources, protocol, classes, command, allow_partial)
        _check_sources(result, description, fusar, srsdd)
        return build_store(
            root, result.records, description, overwrite=overwrite, progress=progress, jobs=jobs, finish=finish
        )


def _write_audit(store: ChipStore, root: Path, jobs: int, progress: Progress | None) -> None:
    """Write the audit into a store, which gets the name `root` later."""
    result = replace(audit_store(store, jobs=jobs, progress=progress), subject=str(root))
    write_audits(store.root / AUDIT_FILE, [result])


def download_fusrs_lists(folder: Path, classes: int, progress: Progress | None = None) -> Path:
    """Download the training list and the test list unless they exist.

    Unlike `FUSRS`, an interrupted download is resumed, and an error says how to get the file by hand.

    Args:
        folder: destination folder.
        classes: number of classes, 4 or 5.
        progress: called after each block.

    Returns:
        The folder.

    Raises:
        DataError: a list cannot be downloaded or differs from the published one; the hint says where to find it.
    """
    for name in (f"{LIST_VERSIONS[classes]}_{split}.txt" for split in FUSRS.splits):
        download(FUSRS.url + name, folder / name, f"md5:{FUSRS.md5s[name]}", progress=progress)
    return folder


def _check_arguments(classes: int, val: float, protocol: FUSRSProtocol, lists: Path | None) -> None:
    if lists is not None and protocol != "published":
        raise RequestError(f"the {protocol} protocol uses no lists", "--lists", "drop it, or add --protocol published")
    if not 0 <= val <= 0.5:
        raise RequestError(f"the validation share is {val:g}", "--val", "give a share from 0 to 0.5")
    if classes not in CLASSES:
        raise RequestError(f"{classes} classes", "--classes", "give 4 or 5")


def _check_sources(
    result: ProtocolRecords, description: StoreDescription, fusar: Path | None, srsdd: Path | None
) -> None:
    """Raise an error if a required archive has no record; the build checks again which records become chips."""
    sources = {record.extra_columns["source"] for record in result.records}
    for source, hint in description.required_sources.items():
        if source not in sources:
            reasons = [
                f"{count:,} {reason}" for reason, count in sorted(description.skipped.items()) if source in reason
            ]
            left_out = f"it has {'; '.join(reasons[:5])}. " if reasons else ""
            raise DataError(f"{source} gives no chip", fusar if source == FUSAR_NAME else srsdd, left_out + hint)


def _describe_store(
    result: ProtocolRecords, sources: FUSRSSources, protocol: str, classes: int, command: str, allow_partial: bool
) -> StoreDescription:
    names = CLASSES[classes]
    hint = f"give another folder, or {ALLOW_PARTIAL_HINT}"
    return StoreDescription(
        name=f"FUSRS v2, {protocol}, {classes} classes",
        classes=names,
        command=command,
        groups={
            "head": [name for name in names if name in HEAD_CLASSES],
            "medium": [],
            "tail": [name for name in names if name in TAIL_CLASSES],
        },
        skipped=result.skipped + sources.skipped,
        rejected=[*result.rejected, *sources.rejected],
        required_sources={} if allow_partial else {FUSAR_NAME: hint, SRSDD_NAME: hint},
    )
