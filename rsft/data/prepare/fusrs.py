"""Build a chip store of FUSRS v2 from FUSAR-Ship and SRSDD, by the clean or the published protocol.

The two archives of FUSRS v2: find them, read them, and refuse those that would give a wrong chip store.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

from rsft.data.audit.findings import AUDIT_FILE, write_audits
from rsft.data.audit.list_audit import find_fusrs_lists
from rsft.data.audit.store_audit import audit_store
from rsft.data.chips.builder import StoreDescription, build_store, check_root_is_free, find_finished_store
from rsft.data.chips.store import ChipStore
from rsft.data.datasets._srsdd_files import CLASSES, HEAD_CLASSES, TAIL_CLASSES
from rsft.data.datasets.fusrs import FUSRS, LIST_VERSIONS
from rsft.data.prepare.common import format_prepare_command
from rsft.data.prepare.fusrs_protocols import ProtocolRecords, clean_records, published_records
from rsft.data.prepare.fusrs_sources import (
    ALLOW_PARTIAL_HINT,
    FUSAR_NAME,
    SRSDD_NAME,
    FUSRSSources,
    find_fusrs_source,
    open_fusrs_sources,
)
from rsft.errors import DataError, RequestError
from rsft.types import Progress
from rsft.utils.download import download

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
