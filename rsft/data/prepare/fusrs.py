"""Build a chip store of FUSRS v2, the Gaofen-3 ships of FUSAR-Ship and SRSDD."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from rsft.data.prepare.registry import data_set
from rsft.data.prepare.store_build import PROCESSES, StoreBuild, check_choice
from rsft.errors import DataError, RequestError
from rsft.utils.command_options import Access, Option

if TYPE_CHECKING:
    from rsft.data.chips.record import StoreDescription
    from rsft.data.chips.store import ChipStore
    from rsft.data.datasets.fusrs_protocols import FUSRSSources
    from rsft.types import Names, Progress

TEST_SHARE = 0.25
"""Share of each class in the test split of the clean protocol. The published lists have
1,700 test rows of 6,961."""

VAL_SHARES = {"clean": 0.1, "published": 0.0}
"""Default share of the validation split, by protocol."""


@data_set("fusrs")
def prepare_fusrs(
    root: Path,
    fusar: Path | None = None,
    srsdd: Path | None = None,
    protocol: Literal["clean", "published"] = "clean",
    lists: Annotated[Path | None, Option(access=Access.READ | Access.OFFLINE)] = None,
    classes: int = 4,
    val: float | None = None,
    allow_partial: bool = False,
    seed: int = 0,
    overwrite: bool = False,
    progress: Progress | None = None,
    jobs: int = PROCESSES,
) -> ChipStore:
    """Build and audit a chip store of FUSRS v2: the ships of FUSAR-Ship and SRSDD.

    The protocol "published" takes rows, splits and labels from the authors' lists, one
    chip per row with repeated rows. "clean" takes the categories of the archives, each
    content once, and keeps every SRSDD image and FUSAR-Ship vessel in one split.
    audit.json in the store is the audit.

    Args:
        fusar: Folder or archive of FUSAR-Ship (default: search in ROOT, beside it and
            in raw/).
        srsdd: Folder or archive of SRSDD (default: search in ROOT, beside it and in
            raw/).
        protocol: clean: categories of the archives, no leak between splits; published:
            the authors' lists.
        lists: Folder of the authors' lists (default: download to fusrs_lists/ beside
            ROOT).
        classes: Number of classes: 4, or 5 with `other`.
        val: Share of each class for validation (default: 0.1 for clean, 0 for
            published).
        allow_partial: Build even if an archive is missing or gives no chip, if most
            file names of a category contradict their folder, or if the boxes of SRSDD
            are not where the images are bright.

    Raises:
        RequestError: `root` is not empty, a source is missing or ambiguous, or an
            argument is out of range.
        DataError: a source or list cannot be used, a source gives no chip, most file
            names contradict their folders, the lists cannot be downloaded, or the audit
            finds a leak between the splits of "clean".
    """
    from rsft.data.datasets import fusrs_protocols as protocols
    from rsft.data.datasets.archive_search import locate_sources
    from rsft.data.datasets.formats.fusrs_classes import CLASSES
    from rsft.data.datasets.published_archives import FUSAR_SHIP_ARCHIVE, SRSDD_ARCHIVE

    _check_lists(protocol, lists)
    check_choice(classes, "--classes", tuple(CLASSES))
    val = _check_share(protocol, val)
    archives = {FUSAR_SHIP_ARCHIVE: fusar, SRSDD_ARCHIVE: srsdd}
    root, located = locate_sources(root, archives, overwrite, allow_partial)
    if protocol == "published":
        lists = _find_lists(lists, root, classes, progress)
    options: dict[str, object] = {
        "fusar": located[FUSAR_SHIP_ARCHIVE],
        "srsdd": located[SRSDD_ARCHIVE],
        "protocol": protocol,
        "lists": lists,
        "classes": classes,
        "val": val,
        "seed": seed,
        "allow_partial": allow_partial,
    }
    build = StoreBuild("fusrs", root, options, (), overwrite, progress, jobs)
    finished = build.find_finished()
    if finished:
        return finished
    names = CLASSES[classes]
    with protocols.open_fusrs_sources(
        root, located, allow_partial, progress
    ) as sources:
        if lists:
            records = protocols.list_records(sources, lists, names, val, seed)
        else:
            shares = {"train": 1 - val - TEST_SHARE, "val": val, "test": TEST_SHARE}
            records = protocols.clean_records(sources, names, shares, seed, jobs)
        description = _describe_store(sources, protocol, names, build.command)
        if not allow_partial:
            required = {
                archive.name: f"give another folder than {path}, or"
                f" {protocols.ALLOW_PARTIAL_HINT}"
                for archive, path in located.items()
            }
            description = replace(description, required_sources=required)
        finish = partial(_audit_store, build, is_clean=protocol == "clean")
        return build.write(records, description, finish=finish)


def _check_lists(protocol: str, lists: Path | None) -> None:
    if lists and protocol != "published":
        raise RequestError(
            f"the {protocol} protocol uses no lists",
            "--lists",
            "drop it, or add --protocol published",
        )


def _check_share(protocol: str, val: float | None) -> float:
    """Return the share of validation, by default that of the protocol."""
    if val is None:
        val = VAL_SHARES[protocol]
    if not 0 <= val <= 0.5:
        raise RequestError(
            f"the validation share is {val:g}", "--val", "give a share from 0 to 0.5"
        )
    return val


def _find_lists(
    lists: Path | None, root: Path, classes: int, progress: Progress | None
) -> Path:
    """Return the folder of the lists, which are downloaded if no folder is given.

    An interrupted download is resumed, and an error says how to get the file by hand.
    """
    from rsft.data.datasets.fusrs import FUSRS, LIST_VERSIONS
    from rsft.utils.download import download

    folder = lists or root.resolve().parent / "fusrs_lists"
    for split in FUSRS.splits:
        name = f"{LIST_VERSIONS[classes]}_{split}.txt"
        if not lists:
            checksum = f"md5:{FUSRS.md5s[name]}"
            download(FUSRS.url + name, folder / name, checksum, progress=progress)
        elif not (folder / name).is_file():
            raise RequestError(
                f"{name} is missing", folder, "give the folder of the authors' lists"
            )
    return folder


def _describe_store(
    sources: FUSRSSources, protocol: str, names: Names, command: str
) -> StoreDescription:
    from rsft.data.chips.record import StoreDescription
    from rsft.data.datasets.formats.fusrs_classes import HEAD_CLASSES, TAIL_CLASSES

    groups = {
        "head": [name for name in HEAD_CLASSES if name in names],
        "medium": [],
        "tail": [*TAIL_CLASSES],
    }
    return StoreDescription(
        f"FUSRS v2, {protocol}, {len(names)} classes",
        names,
        command,
        groups,
        sources.skipped,
        sources.rejected,
    )


def _audit_store(build: StoreBuild, store: ChipStore, is_clean: bool) -> None:
    """Write the audit into a store that gets the name `build.root` later.

    Raises:
        DataError: the splits of the clean protocol share chips.
    """
    from rsft.data.audit import audit_store, write_audits
    from rsft.data.chips.store import AUDIT_FILE

    audit = audit_store(store, jobs=build.jobs, progress=build.progress)
    if is_clean and audit.leaks:
        raise DataError(
            f"the audit of the splits counts {', '.join(audit.leaks)}",
            build.root,
            "leave out copies and tiles of images in the sources",
        )
    write_audits(store.root / AUDIT_FILE, [replace(audit, subject=str(build.root))])
