"""Build a chip store of FUSRS v2 from FUSAR-Ship and SRSDD, by the clean or the published protocol."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeVar

from rsft.data.audit.findings import AUDIT_FILE, write_audits
from rsft.data.audit.store_audit import audit_store
from rsft.data.chips.builder import StoreDescription, build_store, check_root_is_free
from rsft.data.chips.store import DATASET, ChipStore
from rsft.data.datasets.fusar_ship import FUSARShip
from rsft.data.datasets.fusrs import CLASSES, HEAD_CLASSES, TAIL_CLASSES, download_fusrs_lists, read_fusrs_lists
from rsft.data.datasets.srsdd import SRSDD
from rsft.data.prepare._command import format_prepare_command
from rsft.data.prepare.fusrs_protocols import ProtocolRecords, clean_records, published_records
from rsft.errors import RequestError
from rsft.types import Progress
from rsft.utils.archives.source_tree import open_source_tree

FUSRSProtocol = Literal["clean", "published"]

TEST_SHARE = 0.25
"""Share of each class in the test split of the clean protocol. The published lists have 1,700 test rows of 6,961."""
VAL_SHARES = {"clean": 0.1, "published": 0.0}
"""Default share of the validation split, by protocol."""

Source = TypeVar("Source", FUSARShip, SRSDD)


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
        jobs: number of processes.
        overwrite: replace an existing chip store at `root`.
        progress: called after each chip.

    Returns:
        The chip store.

    Raises:
        RequestError: `root` is not empty, a source is missing or ambiguous, or an argument is out of range.
        DataError: a source or list cannot be used, or the lists cannot be downloaded.
    """
    check_root_is_free(root, overwrite)
    val = VAL_SHARES[protocol] if val is None else val
    _check_arguments(classes, val, protocol, lists)
    fusar = fusar or _find_source(FUSARShip, lambda source: len(source) > 0, "--fusar", root)
    srsdd = srsdd or _find_source(SRSDD, lambda source: len(source.ships) > 0, "--srsdd", root)
    if protocol == "published":
        lists = lists or download_fusrs_lists(root.resolve().parent / "fusrs_lists", classes, progress)
    sources = {"fusar": fusar, "srsdd": srsdd, "protocol": protocol, "lists": lists}
    command = format_prepare_command("fusrs", root=root, **sources, classes=classes, val=val, seed=seed)
    with (
        open_source_tree(fusar, _sibling(root, "fusar"), progress) as fusar_folder,
        open_source_tree(srsdd, _sibling(root, "srsdd"), progress) as srsdd_folder,
    ):
        chips, ships = FUSARShip(fusar_folder), SRSDD(srsdd_folder)
        if lists is not None:
            result = published_records(chips, ships, *read_fusrs_lists(lists, classes), CLASSES[classes], val, seed)
        else:
            shares = {"train": 1 - val - TEST_SHARE, "val": val, "test": TEST_SHARE}
            result = clean_records(chips, ships, CLASSES[classes], shares, seed, jobs)
        description = _describe_store(result, chips, ships, protocol, classes, command)
        store = build_store(root, result.records, description, overwrite=overwrite, progress=progress, jobs=jobs)
    write_audits(root / AUDIT_FILE, [audit_store(store, jobs=jobs, progress=progress)])
    return store


def _check_arguments(classes: int, val: float, protocol: FUSRSProtocol, lists: Path | None) -> None:
    if lists is not None and protocol != "published":
        raise RequestError(f"the {protocol} protocol uses no lists", "--lists", "drop it, or add --protocol published")
    if not 0 <= val <= 0.5:
        raise RequestError(f"the validation share is {val:g}", "--val", "give a share from 0 to 0.5")
    if classes not in CLASSES:
        raise RequestError(f"{classes} classes", "--classes", "give 4 or 5")


def _describe_store(
    result: ProtocolRecords, fusar: FUSARShip, srsdd: SRSDD, protocol: str, classes: int, command: str
) -> StoreDescription:
    names = CLASSES[classes]
    return StoreDescription(
        name=f"FUSRS v2, {protocol}, {classes} classes",
        classes=names,
        command=command,
        groups={
            "head": [name for name in names if name in HEAD_CLASSES],
            "medium": [],
            "tail": [name for name in names if name in TAIL_CLASSES],
        },
        skipped=result.skipped + fusar.skipped + srsdd.skipped,
        rejected=[*result.rejected, *fusar.rejected, *srsdd.rejected],
    )


def _sibling(root: Path, source: str) -> Path:
    return root.with_name(f"{root.name}-{source}")


def _find_source(dataset: type[Source], is_usable: Callable[[Source], bool], option: str, root: Path) -> Path:
    """Return the one folder beside `root`, or in raw/ there, that `dataset` can read.

    Raises:
        RequestError: none or several folders can be read.
    """
    parent = root.resolve().parent
    candidates = [
        folder
        for search_dir in (parent, parent / "raw")
        if search_dir.is_dir()
        for folder in sorted(search_dir.iterdir())
        if _is_candidate(folder, root) and _can_read(dataset, is_usable, folder)
    ]
    if len(candidates) != 1:
        names = ", ".join(map(str, candidates))
        fault = f"{len(candidates)} folders contain it: {names}" if candidates else "no folder contains it"
        raise RequestError(
            f"{dataset.__name__}: {fault}", f"{parent}, {parent / 'raw'}", f"give its folder with {option}"
        )
    return candidates[0]


def _is_candidate(folder: Path, root: Path) -> bool:
    is_visible = folder.is_dir() and not folder.name.startswith(".") and folder.name != "raw"
    return is_visible and folder != root.resolve() and not (folder / DATASET).exists()


def _can_read(dataset: type[Source], is_usable: Callable[[Source], bool], folder: Path) -> bool:
    try:
        return is_usable(dataset(folder))
    except RequestError:
        return False
