"""Build a chip store of the objects of DOTA: one crop per object."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rsft.data.prepare.registry import data_set
from rsft.data.prepare.store_build import (
    PROCESSES,
    StoreBuild,
    builds_store,
    check_choice,
)

if TYPE_CHECKING:
    from rsft.data.chips.record import ChipRecord
    from rsft.data.chips.store import ChipStore
    from rsft.data.datasets.dota import DOTAObjects
    from rsft.data.datasets.dota_files import DOTAVersion
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

MIN_SIZE = 4
"""Minimum side of an object in pixels; smaller ones are rejected. Rows of the authors'
lists have none."""

VAL_SHARE = 0.2
"""Share of each class for validation."""


@data_set("dota")
@builds_store("dota")
def prepare_dota(
    build: StoreBuild,
    source: Path | None,
    root: Path,
    version: Literal["1.0", "1.5", "2.0"] = "1.0",
    classes: int = 15,
    lists: Path | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
    jobs: int = PROCESSES,
) -> ChipStore:
    """Build a chip store of DOTA: one chip per object, along its horizontal box.

    `DOTAObjects` reads the objects. If SOURCE has no validation split, it is made of
    whole images outside of train/ and test/, about `VAL_SHARE` of each class. Each
    process keeps one image in memory. With `lists`, rows and splits are those of the
    authors' lists, one chip per row.

    Args:
        source: Folder or archive of DOTA: train/ and val/, or images/ and labelTxt/
            (default: search in ROOT, beside it and in raw/).
        version: Version of the labels.
        classes: Number of classes: 15, as in v1.0, or 18.
        lists: Folder of the authors' lists dota_train_idx.txt and dota_val_idx.txt.

    Raises:
        RequestError: `source` is missing, ambiguous or has no image with labels, `root`
            is not empty, or an argument is out of range.
        DataError: no object can be used.
    """
    from rsft.data.chips.record import StoreDescription
    from rsft.data.datasets.dota import DOTAObjects
    from rsft.data.datasets.dota_records import list_crop_records
    from rsft.data.datasets.published_archives import DOTA_ARCHIVE
    from rsft.data.datasets.source_errors import open_source

    check_choice(classes, "--classes", (15, 18))
    min_size = MIN_SIZE if lists is None else 1

    read = partial(DOTAObjects, version=version, num_classes=classes, min_size=min_size)
    title = f"an image with labels of DOTA v{version}"
    with build.open_source() as folder:
        dataset = open_source(DOTA_ARCHIVE, folder, title, read)
        if not lists:
            records = _list_records(dataset, version)
        else:
            records = list_crop_records(dataset, lists, version)
        description = StoreDescription(
            f"DOTA v{version}, object crops",
            dataset.classes,
            build.command,
            DOTA_GROUPS | {"tail": [*DOTA_GROUPS["tail"], *dataset.classes[15:]]},
            dataset.skipped,
            dataset.rejected,
            license=DOTA_LICENSE,
        )
        return build.write(records, description)


def _list_records(dataset: DOTAObjects, version: DOTAVersion) -> list[ChipRecord]:
    """Make one record per object."""
    from rsft.data.chips.group_splits import split_groups
    from rsft.data.datasets.dota_records import make_crop_record

    split_of = {image.path: image.split or "train" for image in dataset.images}
    unassigned = [item for item in dataset.objects if not item.image.split]
    if unassigned and "val" not in split_of.values():
        labels = [item.category for item in unassigned]
        images = [item.image.path for item in unassigned]
        shares = {"train": 1 - VAL_SHARE, "val": VAL_SHARE}
        split_of |= split_groups(labels, images, shares, seed=0)
    return [
        make_crop_record(item, split_of[item.image.path], version)
        for item in dataset.objects
    ]
