"""Build a chip store of the objects of DOTA: one crop per object, each image decoded once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rsft.data.prepare.registry import data_set, format_prepare_command
from rsft.errors import RequestError

if TYPE_CHECKING:
    from rsft.data.chips.store import ChipStore
    from rsft.types import Progress

DOTA_GROUPS = {
    "head": ["ship", "large-vehicle", "small-vehicle"],
    "medium": ["plane", "harbor", "storage-tank", "tennis-court", "bridge", "swimming-pool"],
    "tail": [
        *("helicopter", "soccer-ball-field", "roundabout"),
        *("basketball-court", "baseball-diamond", "ground-track-field"),
    ],
}
"""The groups of the paper; they do not follow from the counts. The three classes of v1.5 and v2.0 join the tail."""

DOTA_LICENSE = "academic use only, non-commercial"
"""The terms of https://captain-whu.github.io/DOTA/dataset.html; the images also have those of Google Earth."""


@data_set("dota")
def prepare_dota(
    source: Path,
    root: Path,
    version: Literal["1.0", "1.5", "2.0"] = "1.0",
    classes: int = 15,
    margin: int = 0,
    min_side: int = 4,
    val: float = 0.2,
    jobs: int = 2,
    seed: int = 0,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> ChipStore:
    """Build a chip store of the objects of DOTA: one chip per object, cut along its horizontal bounding box.

    `DOTAObjects` reads the objects. The validation split consists of whole images, so `val` is approximate. It is taken
    from the images outside of train/, val/ and test/. Each process keeps one image in memory.

    Args:
        source: Folder or archive of DOTA: train/ and val/, or images/ and labelTxt/.
        version: Version of the labels.
        classes: Number of classes: 15, as in v1.0, or 18.
        margin: Pixels added on each side of an object's box.
        min_side: Minimum side in pixels; smaller objects are rejected.
        val: Share of each class for validation, if SOURCE has no validation split.

    Raises:
        RequestError: `source` has no image with labels, `root` is not empty, or an argument is out of range.
        DataError: no object can be used.
    """
    from torchgeo.datasets.errors import DatasetNotFoundError

    from rsft.data.chips.builder import build_store, find_finished_store
    from rsft.data.chips.record import StoreDescription
    from rsft.data.datasets.common import check_val_share, split_groups
    from rsft.data.datasets.dota import DOTAObjects, make_crop_record, read_rgb_cached
    from rsft.utils.archives import open_source_tree

    options = {"version": version, "classes": classes, "margin": margin, "min_side": min_side, "val": val, "seed": seed}
    command = format_prepare_command("dota", source, root=root, **options)
    if finished := find_finished_store(root, command, overwrite):
        return finished
    if version not in ("1.0", "1.5", "2.0"):
        raise RequestError(f"unknown version {version}", "--version", "choose one of 1.0, 1.5, 2.0")
    if classes not in (15, 18):
        raise RequestError(f"{classes} classes", "--classes", "choose 15 or 18")
    if margin < 0 or min_side < 1:
        message = f"the margin is {margin} and the minimum side {min_side}"
        raise RequestError(message, "--margin, --min-side", "give a margin of 0 or more, and a side of 1 or more")
    check_val_share(val)
    with open_source_tree(source, root, progress) as folder:
        try:
            dataset = DOTAObjects(folder, "all", version, num_classes=classes, margin=margin, min_side=min_side)
        except DatasetNotFoundError as error:
            found = getattr(error, "__notes__", [])  # what was found instead
            hint = "; ".join(["give the folder with images/ and labelTxt/, or with train/ and val/", *found])
            raise RequestError(f"no image with labels of DOTA v{version}", folder, hint) from error
        split_of = {image.path: image.split or "train" for image in dataset.images}
        unassigned = [item for item in dataset.objects if not item.image.split]
        if unassigned and "val" not in split_of.values():
            labels, images = [item.category for item in unassigned], [item.image.path for item in unassigned]
            split_of |= split_groups(labels, images, {"train": 1 - val, "val": val}, seed)
        description = StoreDescription(
            name=f"DOTA v{version}, object crops",
            classes=dataset.classes,
            command=command,
            groups=DOTA_GROUPS | {"tail": [*DOTA_GROUPS["tail"], *dataset.classes[15:]]},
            skipped=dataset.skipped,
            rejected=dataset.rejected,
            license=DOTA_LICENSE,
        )
        records = [make_crop_record(item, split_of[item.image.path], version) for item in dataset.objects]
        try:
            return build_store(root, records, description, overwrite=overwrite, progress=progress, jobs=jobs)
        finally:
            read_rgb_cached.clear()
