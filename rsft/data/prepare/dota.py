"""Build a chip store of the objects of DOTA: one crop per object, each image decoded once."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from torchgeo.datasets import DatasetNotFoundError

from rsft.data.chips.builder import ChipRecord, StoreDescription, build_store, find_finished_store
from rsft.data.chips.store import ChipStore
from rsft.data.datasets.dota import DOTAObject, DOTAObjects, DOTAVersion, crop_object, read_rgb
from rsft.data.imagery.scene_uri import LastImageCache
from rsft.data.prepare.common import check_val_share, format_prepare_command, split_groups
from rsft.errors import DataError, RequestError
from rsft.types import Pixels, Progress
from rsft.utils.archives import open_source_tree

DOTA_GROUPS = {
    "head": ["ship", "large-vehicle", "small-vehicle"],
    "medium": ["plane", "harbor", "storage-tank", "tennis-court", "bridge", "swimming-pool"],
    "tail": [
        "helicopter",
        "soccer-ball-field",
        "roundabout",
        "basketball-court",
        "baseball-diamond",
        "ground-track-field",
    ],
}
"""The groups of the paper; they do not follow from the counts. The three classes of v1.5 and v2.0 join the tail."""

DOTA_LICENSE = "academic use only, non-commercial"
"""The terms of https://captain-whu.github.io/DOTA/dataset.html; the images also have those of Google Earth."""


def prepare_dota(
    src: Path,
    root: Path,
    *,
    version: DOTAVersion = "1.0",
    classes: int = 15,
    margin: int = 0,
    min_side: int = 4,
    val: float = 0.2,
    jobs: int = 2,
    seed: int = 0,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> ChipStore:
    """Build a chip store of the objects that `DOTAObjects` reads.

    Args:
        src: the DOTA tree, or an archive of it.
        root: folder of the chip store.
        version: version of the label files.
        classes: 15, as in v1.0, or 18.
        margin: pixels added on each side of an object's bounding box.
        min_side: minimum side of an object in pixels; smaller objects are rejected.
        val: approximate share of each class for validation, by whole images. It applies to images outside of train/,
            val/ and test/, if `src` has no val/.
        jobs: number of processes; each keeps one image in memory.
        seed: seed of the validation split.
        overwrite: replace an existing chip store at `root`.
        progress: called after each chip.

    Returns:
        The chip store.

    Raises:
        RequestError: `src` has no image with labels, `root` is not empty, or an argument is out of range.
        DataError: no object can be used.
    """
    options = {"version": version, "classes": classes, "margin": margin, "min_side": min_side, "val": val, "seed": seed}
    command = format_prepare_command("dota", src, root=root, **options)
    if finished := find_finished_store(root, command, overwrite):
        return finished
    _check_arguments(version, classes, margin, min_side, val)
    with open_source_tree(src, root, progress) as folder:
        source = _open_dataset(folder, version, classes, margin, min_side)
        split_of = _split_images(source, val, seed)
        description = StoreDescription(
            name=f"DOTA v{version}, object crops",
            classes=source.classes,
            command=command,
            groups=DOTA_GROUPS | {"tail": [*DOTA_GROUPS["tail"], *source.classes[15:]]},
            skipped=source.skipped,
            rejected=source.rejected,
            license=DOTA_LICENSE,
        )
        records = [make_crop_record(item, split_of[item.image.path], version) for item in source.objects]
        try:
            return build_store(root, records, description, overwrite=overwrite, progress=progress, jobs=jobs)
        finally:
            _read_rgb_cached.clear()


def _check_arguments(version: str, classes: int, margin: int, min_side: int, val: float) -> None:
    if version not in DOTAObjects.versions:
        choices = ", ".join(DOTAObjects.versions)
        raise RequestError(f"unknown version {version}", "--version", f"choose one of {choices}")
    if classes not in (15, 18):
        raise RequestError(f"{classes} classes", "--classes", "choose 15 or 18")
    if margin < 0 or min_side < 1:
        raise RequestError(
            f"the margin is {margin} and the minimum side {min_side}",
            "--margin, --min-side",
            "give a margin of 0 or more, and a side of 1 or more",
        )
    check_val_share(val)


def _open_dataset(folder: Path, version: DOTAVersion, classes: int, margin: int, min_side: int) -> DOTAObjects:
    try:
        return DOTAObjects(folder, "all", version, num_classes=classes, margin=margin, min_side=min_side)
    except DatasetNotFoundError as error:
        hint = "give the folder with images/ and labelTxt/, or with train/ and val/"
        notes = getattr(error, "__notes__", [])  # what was found instead
        raise RequestError(f"no image with labels of DOTA v{version}", folder, "; ".join([hint, *notes])) from error


def _split_images(source: DOTAObjects, val: float, seed: int) -> dict[Path, str]:
    """Return the split of each image: that of its folder, otherwise a random one."""
    split_of = {image.path: image.split or "train" for image in source.images}
    unassigned = [item for item in source.objects if not item.image.split]
    if unassigned and "val" not in split_of.values():
        labels, images = [item.category for item in unassigned], [item.image.path for item in unassigned]
        split_of |= split_groups(labels, images, {"train": 1 - val, "val": val}, seed)
    return split_of


def make_crop_record(item: DOTAObject, split: str, version: DOTAVersion) -> ChipRecord:
    """Make the record of an object; its pixels are cropped when the record is stored.

    Args:
        item: the object.
        split: train, val or test.
        version: version of the label files.

    Returns:
        The record.
    """
    image = item.image
    flags = ("clipped" if item.clipped else "", "difficult" if item.difficult else "", image.flag)
    columns = {
        "group_key": image.stem,
        "source": f"DOTA-v{version}",
        "sensor": image.sensor,
        "spacing_m": image.spacing_m,
        "box": item.box_in_crop,
        "flags": ",".join(flag for flag in flags if flag),
    }
    return ChipRecord(
        item.name,
        split,
        item.category,
        image.label_file,
        partial(_crop, item),
        item.line,
        extra_columns=columns,
        image_paths=(image.path,),
    )


_read_rgb_cached = LastImageCache(read_rgb)


def _crop(item: DOTAObject) -> Pixels:
    try:
        return crop_object(item, _read_rgb_cached(item.image.path))
    except DataError as error:  # reported at the row of the label file, so the message must name the image
        raise DataError(f"{item.image.path.name}: {error.message}") from error.__cause__
