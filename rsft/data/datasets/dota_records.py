"""Records of the crops of DOTA: one per object, or per row of the authors' lists."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from rsft.data.chips.record import ChipRecord, describe_rejections
from rsft.data.datasets.dota import (
    DOTAObject,
    DOTAObjects,
    crop_object,
    read_rgb,
    unclipped_window,
)
from rsft.data.datasets.dota_files import DOTAVersion
from rsft.data.datasets.formats.fusrs_classes import REPEATED_ROW_FLAG
from rsft.data.datasets.formats.label_rows import read_list_rows
from rsft.data.imagery.scene_uri import LastImageCache
from rsft.errors import DataError, RequestError
from rsft.types import JsonObject, Pixels

LISTS = {"train": "dota_train_idx.txt", "val": "dota_val_idx.txt"}
"""List of the paper's authors for each split, with rows
`<folder>/<class>/<image>_<x1>_<y1>_<x2>_<y2>.png <label>`."""

_read_rgb_cached = LastImageCache(read_rgb)
"""`read_rgb`; the last image is cached, so it is decoded once for consecutive objects
of one image."""


def make_crop_record(
    item: DOTAObject, split: str, version: DOTAVersion, name: str = "", count: int = 1
) -> ChipRecord:
    """Make the record of an object; its pixels are cropped when it is stored.

    Args:
        item: the object.
        split: its split.
        version: version of its labels.
        name: name of the record; "" for that of the object.
        count: number of records with this name so far. From the second on, it is added
            to the name.
    """
    name = name or item.name
    image = item.image
    flags = {
        "clipped": item.clipped,
        "difficult": item.difficult,
        image.flag: image.flag,
        REPEATED_ROW_FLAG: count > 1,
    }
    columns: JsonObject = {
        "group_key": image.stem,
        "source": f"DOTA-v{version}",
        "sensor": image.sensor,
        "spacing_m": image.spacing_m,
        "box": item.box_in_crop,
        "flags": ",".join(flag for flag, is_set in flags.items() if is_set),
    }
    return ChipRecord(
        name if count == 1 else f"{name}__{count}",
        split,
        item.category,
        image.label_file,
        partial(_crop_cached, item),
        item.line,
        extra_columns=columns,
        image_paths=(image.path,),
    )


def _crop_cached(item: DOTAObject) -> Pixels:
    path = item.image.path
    try:
        return crop_object(item, _read_rgb_cached(path))
    # reported at the row of the label file, so the message must name the image
    except DataError as error:
        raise DataError(f"{path.name}: {error.message}") from error.__cause__


def list_crop_records(
    dataset: DOTAObjects, lists: Path, version: DOTAVersion
) -> list[ChipRecord]:
    """Make one record per row of the authors' lists.

    Their windows are bounding boxes without clipping.

    Args:
        dataset: the objects of all splits. Rows without an object are added to its
            rejected rows, and objects in no row are counted as skipped.
        lists: folder of the lists.
        version: version of the labels.

    Returns:
        The records, sorted by image, so that each image is decoded once. Repeated rows
        of a name in a split are called name__2, name__3 and so on.

    Raises:
        RequestError: a list is missing.
        DataError: a list is not a text file, or no row has an object.
    """
    objects = {}
    for labeled in dataset.objects:
        window = "_".join(map(str, unclipped_window(labeled.box)))
        objects[f"{labeled.category}/{labeled.image.stem}_{window}"] = labeled
    records = []
    counts = Counter[tuple[str, str]]()
    listed = set()
    for path, line, split, key in _read_lists(lists):
        item = objects.get(key)
        if not item:
            dataset.reject(path, f"no label file has the object {key}", line)
            continue
        listed.add(key)
        name = key.partition("/")[2]
        counts[split, name] += 1
        count = counts[split, name]
        records.append(make_crop_record(item, split, version, name, count))
    if not records:
        raise DataError(
            "no row of the lists has an object",
            lists,
            describe_rejections(dataset.rejected),
        )
    dataset.skipped["object in no list"] = len(dataset.objects) - len(listed)
    return sorted(records, key=lambda x: (x.image_paths, x.line, x.name))


def _read_lists(folder: Path) -> Iterator[tuple[Path, int, str, str]]:
    """Yield the file, line, split and `<class>/<name>` of each row of the lists."""
    for split, file_name in LISTS.items():
        path = folder / file_name
        if not path.is_file():
            raise RequestError(
                f"{file_name} is missing",
                folder,
                "give the folder of the authors' lists with --lists",
            )
        for line, chip_path, _ in read_list_rows(path):
            chip = Path(chip_path)
            yield path, line, split, f"{chip.parent.name}/{chip.stem}"
