"""DOTA's objects into a chip store, one crop each, every image decoded once."""

from __future__ import annotations

import shlex
from functools import partial
from pathlib import Path

from rsft.data.chips.builder import Plan, Record, build_store, check_free
from rsft.data.chips.store import ChipStore
from rsft.data.datasets.dota import VERSIONS, DOTAObject, DOTAObjects, Version, cut, read_rgb
from rsft.data.imagery.image_cache import HeldImage
from rsft.data.prepare.group_splits import split_groups
from rsft.errors import DataError, RequestError
from rsft.types import Pixels, Progress
from rsft.utils.archives.source_tree import unpacked

GROUPS = {
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
"""As the paper has them, whatever the counts; the three classes that came later join the tail."""


def prepare_dota(
    root: Path,
    *,
    src: Path,
    version: Version = "1.0",
    classes: int = 15,
    margin: int = 0,
    min_side: int = 4,
    val: float = 0.2,
    jobs: int = 2,
    seed: int = 0,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> ChipStore:
    """Cut the objects of the DOTA tree or archive `src`, as `DOTAObjects` finds them, into the chip store `root`.

    Args:
        classes, margin, min_side: as in `DOTAObjects`.
        val: share of each class to come near to in validation, by whole images, where `src` has no train/ and val/.
        jobs: processes; each holds one image at a time.

    Raises:
        RequestError: `src` has no such image, `root` is taken, or an argument is out of range.
        DataError: no object can be used.
    """
    check_free(root, overwrite)
    _check(version, classes, margin, min_side, val)
    words = ["rsft", "prepare", "dota", str(src), "--root", str(root), "--version", version]
    words += ["--classes", str(classes), "--margin", str(margin), "--min-side", str(min_side)]
    with unpacked(src, root, progress) as folder:
        source = DOTAObjects(folder, version, classes=classes, margin=margin, min_side=min_side)
        split_of = _splits(source, val, seed)
        plan = Plan(
            name=f"DOTA v{version}, object crops",
            classes=source.classes,
            command=shlex.join([*words, "--val", f"{val:g}", "--seed", str(seed)]),
            groups=GROUPS | {"tail": [*GROUPS["tail"], *source.classes[15:]]},
            skipped=source.skipped,
            rejected=source.rejected,
        )
        records = [crop_record(item, split_of[item.image.path], version) for item in source.objects]
        try:
            return build_store(root, records, plan, overwrite=overwrite, progress=progress, jobs=jobs)
        finally:
            _held_rgb.clear()


def _check(version: str, classes: int, margin: int, min_side: int, val: float) -> None:
    if version not in VERSIONS:
        raise RequestError(f"version {version}", "--version", f"choose one of {', '.join(VERSIONS)}")
    if classes not in (15, 18):
        raise RequestError(f"{classes} classes", "--classes", "choose 15 or 18")
    if margin < 0 or min_side < 1:
        raise RequestError(
            f"a margin of {margin}, a least side of {min_side}", "--margin, --min-side", "0 or more, 1 or more"
        )
    if not 0 <= val < 1:
        raise RequestError(f"a validation share of {val}", "--val", "give a share from 0 up to, not including, 1")


def _splits(source: DOTAObjects, val: float, seed: int) -> dict[Path, str]:
    """The split of each image: by its folder; without such folders whole images are dealt."""
    split_of = {image.path: image.split or "train" for image in source.images}
    loose = [item for item in source.objects if not item.image.split]
    if loose and "val" not in split_of.values():
        labels, images = [item.category for item in loose], [item.image.path for item in loose]
        split_of |= split_groups(labels, images, {"train": 1 - val, "val": val}, seed)
    return split_of


def crop_record(item: DOTAObject, split: str, version: Version) -> Record:
    """The record of an object, its pixels cut when they are asked for."""
    image = item.image
    flags = ("clipped" if item.clipped else "", "difficult" if item.difficult else "", image.flag)
    facts = {
        "group_key": image.stem,
        "source": f"DOTA-v{version}",
        "sensor": image.sensor,
        "spacing_m": image.spacing_m,
        "box": item.box_in_crop,
        "flags": ",".join(flag for flag in flags if flag),
    }
    return Record(
        item.name,
        split,
        item.category,
        image.label_file,
        partial(_crop, item),
        item.line,
        facts=facts,
        images=(image.path,),
    )


_held_rgb = HeldImage(read_rgb)


def _crop(item: DOTAObject) -> Pixels:
    try:
        return cut(item, _held_rgb(item.image.path))
    except DataError as error:  # told at the row of the label file, where the object is lost
        raise DataError(f"{item.image.path.name}: {error.what}") from error.__cause__
