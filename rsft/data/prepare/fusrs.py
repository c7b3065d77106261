"""Build a chip store of FUSRS v2 from FUSAR-Ship and SRSDD, by the clean or the published protocol."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rsft.data.prepare.registry import data_set, format_prepare_command
from rsft.errors import DataError, RequestError

if TYPE_CHECKING:
    from rsft.data.chips.record import ChipRecord, StoreDescription
    from rsft.data.chips.store import ChipStore
    from rsft.data.datasets.fusrs_protocols import ProtocolRecords
    from rsft.data.datasets.fusrs_sources import FUSRSSources
    from rsft.types import Progress

TEST_SHARE = 0.25
"""Share of each class in the test split of the clean protocol. The published lists have 1,700 test rows of 6,961."""
VAL_SHARES = {"clean": 0.1, "published": 0.0}
"""Default share of the validation split, by protocol."""


def describe_flags(store: ChipStore, arguments: Mapping[str, Any]) -> Iterator[str]:
    """Yield the number of chips with each flag, and the path of the audit."""
    for flag, count in store.table["flags"].str.split(",").explode().value_counts().items():
        if flag:
            yield f"flagged: {count:,}  {flag}"
    yield f"{'audit':<12} {store.root / 'audit.json'}"


@data_set("fusrs", notes=describe_flags)
def prepare_fusrs(
    root: Path,
    fusar: Path | None = None,
    srsdd: Path | None = None,
    protocol: Literal["clean", "published"] = "clean",
    lists: Path | None = None,
    classes: int = 4,
    val: float | None = None,
    allow_partial: bool = False,
    jobs: int = 2,
    seed: int = 0,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> ChipStore:
    """Build and audit a chip store of FUSRS v2, the Gaofen-3 ships of FUSAR-Ship and SRSDD.

    The protocol "published" takes rows, splits and labels from the authors' lists, one chip per row with repeated rows.
    "clean" takes the categories of the archives, each content once, and keeps every SRSDD image and FUSAR-Ship vessel
    in one split. audit.json in the store is the audit.

    Args:
        fusar: Folder or archive of FUSAR-Ship (default: search beside ROOT and in raw/).
        srsdd: Folder or archive of SRSDD (default: search beside ROOT and in raw/).
        protocol: clean: categories of the archives, no leak between splits; published: the authors' lists.
        lists: Folder of the authors' lists (default: download to fusrs_lists/ beside ROOT).
        classes: Number of classes: 4, or 5 with `other`.
        val: Share of each class for validation (default: 0.1 for clean, 0 for published).
        allow_partial: Build even if an archive is missing or gives no chip, or most file names contradict their folder.

    Raises:
        RequestError: `root` is not empty, a source is missing or ambiguous, or an argument is out of range.
        DataError: a source or list cannot be used, a source gives no chip, most file names contradict their folders,
            or the lists cannot be downloaded.
    """
    from rsft.data.chips.builder import build_store, check_root_is_free, find_finished_store
    from rsft.data.datasets import fusrs_protocols as protocols
    from rsft.data.datasets import fusrs_sources as archives
    from rsft.data.datasets._srsdd_files import CLASSES

    val = VAL_SHARES[protocol] if val is None else val
    if lists is not None and protocol != "published":
        raise RequestError(f"the {protocol} protocol uses no lists", "--lists", "drop it, or add --protocol published")
    if not 0 <= val <= 0.5:
        raise RequestError(f"the validation share is {val:g}", "--val", "give a share from 0 to 0.5")
    if classes not in CLASSES:
        raise RequestError(f"{classes} classes", "--classes", "give 4 or 5")
    try:
        fusar = fusar or archives.find_fusrs_source(archives.FUSAR_NAME, root, allow_partial)
        srsdd = srsdd or archives.find_fusrs_source(archives.SRSDD_NAME, root, allow_partial)
    except RequestError:
        check_root_is_free(root, overwrite)  # the more important error
        raise
    if protocol == "published":
        lists = _find_lists(lists, root, classes, progress)
    inputs = {"fusar": fusar, "srsdd": srsdd, "protocol": protocol, "lists": lists, "classes": classes, "val": val}
    command = format_prepare_command("fusrs", root=root, **inputs, seed=seed, allow_partial=allow_partial)
    if finished := find_finished_store(root, command, overwrite):
        return finished

    def write_audit(store: ChipStore) -> None:
        """Write the audit into a store, which gets the name `root` later."""
        from rsft.data.audit.findings import AUDIT_FILE, write_audits
        from rsft.data.audit.store_audit import audit_store

        result = replace(audit_store(store, jobs=jobs, progress=progress), subject=str(root))
        write_audits(store.root / AUDIT_FILE, [result])

    names = CLASSES[classes]
    with archives.open_fusrs_sources(root, fusar, srsdd, allow_partial, progress) as sources:
        if lists is not None:
            result = protocols.published_records(sources, lists, names, val, seed)
        else:
            shares = {"train": 1 - val - TEST_SHARE, "val": val, "test": TEST_SHARE}
            result = protocols.clean_records(sources, names, shares, seed, jobs)
        description = _describe_store(result, sources, protocol, classes, command, allow_partial)
        _check_sources(result.records, description, {archives.FUSAR_NAME: fusar, archives.SRSDD_NAME: srsdd})
        return build_store(
            root, result.records, description, overwrite=overwrite, progress=progress, jobs=jobs, finish=write_audit
        )


def _describe_store(
    result: ProtocolRecords, sources: FUSRSSources, protocol: str, classes: int, command: str, allow_partial: bool
) -> StoreDescription:
    from rsft.data.chips.record import StoreDescription
    from rsft.data.datasets import fusrs_sources as archives
    from rsft.data.datasets._srsdd_files import CLASSES, HEAD_CLASSES, TAIL_CLASSES

    names, hint = CLASSES[classes], f"give another folder, or {archives.ALLOW_PARTIAL_HINT}"
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
        required_sources={} if allow_partial else {archives.FUSAR_NAME: hint, archives.SRSDD_NAME: hint},
    )


def _find_lists(lists: Path | None, root: Path, classes: int, progress: Progress | None) -> Path:
    """Return the folder of the training list and the test list, which are downloaded if no folder is given.

    Unlike `FUSRS`, an interrupted download is resumed, and an error says how to get the file by hand.
    """
    from rsft.data.datasets.fusrs import FUSRS, LIST_VERSIONS
    from rsft.utils.download import download

    folder = lists or root.resolve().parent / "fusrs_lists"
    for name in (f"{LIST_VERSIONS[classes]}_{split}.txt" for split in FUSRS.splits):
        if lists is None:
            download(FUSRS.url + name, folder / name, f"md5:{FUSRS.md5s[name]}", progress=progress)
        elif not (folder / name).is_file():
            raise RequestError(f"{name} is missing", folder, "give the folder of the authors' lists")
    return folder


def _check_sources(
    records: list[ChipRecord], description: StoreDescription, locations: Mapping[str, Path | None]
) -> None:
    """Raise an error if a required archive has no record; the build checks again which records become chips."""
    sources = {record.extra_columns["source"] for record in records}
    for source, hint in description.required_sources.items():
        if source not in sources:
            skipped = sorted(description.skipped.items())
            reasons = [f"{count:,} {reason}" for reason, count in skipped if source in reason]
            left_out = f"it has {'; '.join(reasons[:5])}. " if reasons else ""
            raise DataError(f"{source} gives no chip", locations[source], left_out + hint)
