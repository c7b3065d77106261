"""Build chip stores of published SAR and aerial data sets: DOTA (one crop per object), OpenSARShip and FUSRS v2."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rsft.data.prepare.registry import data_set, format_prepare_command
from rsft.errors import DataError, RequestError

if TYPE_CHECKING:
    from rsft.data.chips.record import ChipRecord, StoreDescription
    from rsft.data.chips.store import ChipStore
    from rsft.data.datasets.dota import DOTAObjects
    from rsft.data.datasets.fusrs_protocols import FUSRSSources
    from rsft.types import Progress

DOTA_GROUPS = {
    "head": ["ship", "large-vehicle", "small-vehicle"],
    "medium": [
        "plane",
        "harbor",
        "storage-tank",
        "tennis-court",
        "bridge",
        "swimming-pool",
    ],
    "tail": [
        "helicopter",
        "soccer-ball-field",
        "roundabout",
        "basketball-court",
        "baseball-diamond",
        "ground-track-field",
    ],
}
"""The groups of the paper; they do not follow from the counts. The three classes of
v1.5 and v2.0 join the tail."""

DOTA_LICENSE = "academic use only, non-commercial"
"""The terms of https://captain-whu.github.io/DOTA/dataset.html; the images also have
those of Google Earth."""


@data_set("dota")
def prepare_dota(
    source: Path | None,
    root: Path,
    version: Literal["1.0", "1.5", "2.0"] = "1.0",
    classes: int = 15,
    lists: Path | None = None,
    margin: int = 0,
    min_side: int = 4,
    val: float = 0.2,
    jobs: int = 2,
    seed: int = 0,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> ChipStore:
    """Build a chip store of the objects of DOTA: one chip per object, cut along its horizontal bounding box.

    `DOTAObjects` reads the objects. The validation split consists of whole images, so
    `val` is approximate. It is taken from the images outside of train/, val/ and test/.
    Each process keeps one image in memory. With `lists`, rows and splits are those of
    the authors' lists, one chip per row; margin, minimum side and `val` have no effect.

    Args:
        source: Folder or archive of DOTA: train/ and val/, or images/ and labelTxt/
            (default: search in ROOT, beside it and in raw/).
        version: Version of the labels.
        classes: Number of classes: 15, as in v1.0, or 18.
        lists: Folder of the authors' lists dota_train_idx.txt and dota_val_idx.txt.
        margin: Pixels added on each side of an object's box.
        min_side: Minimum side in pixels; smaller objects are rejected.
        val: Share of each class for validation, if SOURCE has no validation split.

    Raises:
        RequestError: `source` is missing, ambiguous or has no image with labels, `root`
            is not empty, or an argument is out of range.
        DataError: no object can be used.
    """
    from rsft.data.chips.builder import build_store, find_finished_store
    from rsft.data.chips.record import StoreDescription
    from rsft.data.datasets.archive_search import locate_source
    from rsft.data.datasets.dota import (
        DOTAObjects,
        list_crop_records,
        make_crop_record,
        read_rgb_cached,
    )
    from rsft.data.datasets.published_archives import DOTA_ARCHIVE
    from rsft.data.datasets.source_errors import (
        explain_wrong_source,
        translate_dataset_errors,
    )
    from rsft.data.datasets.splits import check_val_share
    from rsft.utils.source_tree import open_source_tree

    root, source = locate_source(DOTA_ARCHIVE, root, source, overwrite)
    options = {
        "version": version,
        "classes": classes,
        "lists": lists,
        "margin": margin,
        "min_side": min_side,
    }
    command = format_prepare_command(
        "dota", source, root=root, **options, val=val, seed=seed
    )
    finished = find_finished_store(root, command, overwrite)
    if finished:
        return finished
    if version not in ("1.0", "1.5", "2.0"):
        raise RequestError(
            f"unknown version {version}", "--version", "choose one of 1.0, 1.5, 2.0"
        )
    if classes not in (15, 18):
        raise RequestError(f"{classes} classes", "--classes", "choose 15 or 18")
    if margin < 0 or min_side < 1:
        raise RequestError(
            f"the margin is {margin} and the minimum side {min_side}",
            "--margin, --min-side",
            "give a margin of 0 or more, and a side of 1 or more",
        )
    check_val_share(val)
    with open_source_tree(source, root, progress) as folder:
        hint = f"give the folder that contains {DOTA_ARCHIVE.content}"
        with (
            explain_wrong_source(DOTA_ARCHIVE, folder),
            translate_dataset_errors(
                f"an image with labels of DOTA v{version}", folder, hint
            ),
        ):
            if lists is not None:  # listed windows have no margin and no minimum side
                margin = 0
                min_side = 1
            dataset = DOTAObjects(
                folder,
                "all",
                version,
                num_classes=classes,
                margin=margin,
                min_side=min_side,
            )
        if lists is not None:
            records = list_crop_records(dataset, lists, version)
        else:
            split_of = _split_dota_images(dataset, val, seed)
            records = [
                make_crop_record(item, split_of[item.image.path], version)
                for item in dataset.objects
            ]
        groups = DOTA_GROUPS | {"tail": [*DOTA_GROUPS["tail"], *dataset.classes[15:]]}
        skipped = dataset.skipped
        rejected = dataset.rejected
        title = f"DOTA v{version}, object crops"
        description = StoreDescription(
            title,
            dataset.classes,
            command,
            groups,
            skipped,
            rejected,
            license=DOTA_LICENSE,
        )
        try:
            return build_store(
                root,
                records,
                description,
                overwrite=overwrite,
                progress=progress,
                jobs=jobs,
            )
        finally:
            read_rgb_cached.clear()


def _split_dota_images(dataset: DOTAObjects, val: float, seed: int) -> dict[Path, str]:
    """Return the split of every image; `val` is the share of validation, unless a folder is that split."""
    from rsft.data.datasets.splits import split_groups

    split_of = {image.path: image.split or "train" for image in dataset.images}
    unassigned = [item for item in dataset.objects if not item.image.split]
    if unassigned and "val" not in split_of.values():
        labels = [item.category for item in unassigned]
        images = [item.image.path for item in unassigned]
        split_of |= split_groups(labels, images, {"train": 1 - val, "val": val}, seed)
    return split_of


TEST_SHARE = 0.25
"""Share of each class in the test split of the clean protocol. The published lists have
1,700 test rows of 6,961."""
VAL_SHARES = {"clean": 0.1, "published": 0.0}
"""Default share of the validation split, by protocol."""


def describe_flags(store: ChipStore, arguments: Mapping[str, Any]) -> Iterator[str]:
    """Yield the number of chips with each flag, and the path of the audit."""
    for flag, count in (
        store.table["flags"].str.split(",").explode().value_counts().items()
    ):
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
    from rsft.data.chips.builder import build_store, find_finished_store
    from rsft.data.datasets import fusrs_protocols as protocols
    from rsft.data.datasets.archive_search import locate_sources
    from rsft.data.datasets.formats.fusrs_classes import CLASSES
    from rsft.data.datasets.published_archives import FUSAR_SHIP_ARCHIVE, SRSDD_ARCHIVE

    val = VAL_SHARES[protocol] if val is None else val
    if lists is not None and protocol != "published":
        raise RequestError(
            f"the {protocol} protocol uses no lists",
            "--lists",
            "drop it, or add --protocol published",
        )
    if not 0 <= val <= 0.5:
        raise RequestError(
            f"the validation share is {val:g}", "--val", "give a share from 0 to 0.5"
        )
    if classes not in CLASSES:
        raise RequestError(f"{classes} classes", "--classes", "give 4 or 5")
    archives = {FUSAR_SHIP_ARCHIVE: fusar, SRSDD_ARCHIVE: srsdd}
    root, (fusar, srsdd) = locate_sources(
        "fusrs", root, archives, overwrite, allow_partial
    )
    if protocol == "published":
        lists = _find_lists(lists, root, classes, progress)
    inputs = {
        "fusar": fusar,
        "srsdd": srsdd,
        "protocol": protocol,
        "lists": lists,
        "classes": classes,
        "val": val,
    }
    command = format_prepare_command(
        "fusrs", root=root, **inputs, seed=seed, allow_partial=allow_partial
    )
    finished = find_finished_store(root, command, overwrite)
    if finished:
        return finished

    def audit(store: ChipStore) -> None:
        """Write the audit into a store, which gets the name `root` later; refuse one whose clean splits leak."""
        from rsft.data.audit import AUDIT_FILE, audit_store, write_audits

        result = replace(
            audit_store(store, jobs=jobs, progress=progress), subject=str(root)
        )
        if protocol == "clean" and result.leaks:
            raise DataError(
                f"the audit of the splits counts {', '.join(result.leaks)}",
                root,
                "leave out copies and tiles of images in the sources",
            )
        write_audits(store.root / AUDIT_FILE, [result])

    names = CLASSES[classes]
    locations = {protocols.FUSAR_NAME: fusar, protocols.SRSDD_NAME: srsdd}
    with protocols.open_fusrs_sources(
        root, fusar, srsdd, allow_partial, progress
    ) as sources:
        if lists is not None:
            records = protocols.list_records(sources, lists, names, val, seed)
        else:
            shares = {"train": 1 - val - TEST_SHARE, "val": val, "test": TEST_SHARE}
            records = protocols.clean_records(sources, names, shares, seed, jobs)
        description = _describe_store(
            sources, protocol, classes, command, () if allow_partial else locations
        )
        _check_sources(records, description, locations)
        return build_store(
            root,
            records,
            description,
            overwrite=overwrite,
            progress=progress,
            jobs=jobs,
            finish=audit,
        )


def _describe_store(
    sources: FUSRSSources,
    protocol: str,
    classes: int,
    command: str,
    required: Iterable[str],
) -> StoreDescription:
    from rsft.data.chips.record import StoreDescription
    from rsft.data.datasets.formats.fusrs_classes import (
        CLASSES,
        HEAD_CLASSES,
        TAIL_CLASSES,
    )
    from rsft.data.datasets.fusrs_protocols import ALLOW_PARTIAL_HINT

    names = CLASSES[classes]
    groups = {
        "head": HEAD_CLASSES,
        "medium": (),
        "tail": TAIL_CLASSES,
    }
    return StoreDescription(
        f"FUSRS v2, {protocol}, {classes} classes",
        names,
        command,
        groups={
            group: [name for name in members if name in names]
            for group, members in groups.items()
        },
        skipped=sources.skipped,
        rejected=sources.rejected,
        required_sources=dict.fromkeys(
            required, f"give another folder, or {ALLOW_PARTIAL_HINT}"
        ),
    )


def _find_lists(
    lists: Path | None, root: Path, classes: int, progress: Progress | None
) -> Path:
    """Return the folder of the training list and the test list, which are downloaded if no folder is given.

    Unlike `FUSRS`, an interrupted download is resumed, and an error says how to get the
    file by hand.
    """
    from rsft.data.datasets.fusrs import FUSRS, LIST_VERSIONS
    from rsft.utils.download import download

    folder = lists or root.resolve().parent / "fusrs_lists"
    for name in (f"{LIST_VERSIONS[classes]}_{split}.txt" for split in FUSRS.splits):
        if lists is None:
            download(
                FUSRS.url + name,
                folder / name,
                f"md5:{FUSRS.md5s[name]}",
                progress=progress,
            )
        elif not (folder / name).is_file():
            raise RequestError(
                f"{name} is missing", folder, "give the folder of the authors' lists"
            )
    return folder


def _check_sources(
    records: list[ChipRecord],
    description: StoreDescription,
    paths: Mapping[str, Path | None],
) -> None:
    """Raise an error if a required archive has no record; the build checks again which records become chips."""
    from rsft.data.chips.record import describe_rejections

    sources = {record.extra_columns["source"] for record in records}
    for source, hint in description.required_sources.items():
        if source not in sources:
            skipped = sorted(description.skipped.items())
            reasons = [
                f"{count:,} {reason}" for reason, count in skipped if source in reason
            ]
            reasons = [*reasons[:5], describe_rejections(description.rejected)]
            left_out = "; ".join(filter(None, reasons))
            raise DataError(
                f"{source} gives no chip",
                paths[source],
                f"it has {left_out}. {hint}" if left_out else hint,
            )
