"""Build a chip store of any labeled images: class folders, list files or a table, long-tailed on request.

Build chip stores of Places-LT and iNaturalist 2018, which are long-tailed as published.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from rsft.data.chips.builder import ChipRecord, StoreDescription, build_store, find_finished_store
from rsft.data.chips.store import ChipStore
from rsft.data.datasets._label_files import (
    INATURALIST_2018,
    PLACES_LT,
    LabeledFile,
    LabeledFiles,
    LabelTable,
    ListFiles,
    PublishedLists,
    describe_row_fault,
    read_numbered_lines,
)
from rsft.data.imagery.bands import check_bands
from rsft.data.imagery.units import parse_unit
from rsft.data.prepare.common import (
    check_val_share,
    format_prepare_command,
    hold_out,
    make_chip_names,
    subsample_long_tail,
)
from rsft.errors import DataError, RequestError
from rsft.types import Progress
from rsft.utils.licenses import UNKNOWN


def prepare_folder(
    src: Path,
    root: Path,
    *,
    imbalance: float | None = None,
    val: float = 0.2,
    names: Mapping[str, str] | Path | None = None,
    unit: str | None = None,
    bands: tuple[str, ...] | None = None,
    spacing: float | None = None,
    license_text: str = UNKNOWN,
    not_a_target: str | None = None,
    seed: int = 0,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> ChipStore:
    """Build a chip store of the images that `ImageFolderLT`, or for a .csv file `LabelTable`, reads.

    Args:
        src: the folder, or the .csv file.
        root: folder of the chip store.
        imbalance: size of the largest training class over that of the smallest, by `long_tail_counts`. Classes are
            ranked by descending count, ties in class order. Other splits stay unchanged. Default: all images.
        val: share of each training class for validation; used if `src` has no validation split.
        names: class names by folder name, or a text file with one `folder name` pair per line.
        unit: unit of the pixels; required for floating-point images, unless the tags of their TIFF files name it.
        bands: names of the bands to store. TIFF files that name their bands may have more. In other files, these are
            the names of all bands, in order. By default the names in the file, or gray, or R, G, B.
        spacing: pixel spacing in meters; a model then refuses scenes of another spacing.
        license_text: license of the images: SPDX identifier, or a statement as in `rsft.utils.licenses`.
        not_a_target: class of the rows of a .csv file whose verdict is "not a target" (default: left out).
        seed: seed of every random choice.
        overwrite: replace an existing chip store at `root`.
        progress: called after each chip.

    Returns:
        The chip store.

    Raises:
        RequestError: `src` has no labeled image, `root` is not empty, or an argument is out of range.
        DataError: no image can be used.
    """
    command = format_prepare_command(
        "folder",
        src,
        root=root,
        imbalance=imbalance,
        names=names if isinstance(names, Path) else None,
        unit=unit,
        bands=",".join(bands) if bands else None,
        spacing=spacing,
        license=None if license_text == UNKNOWN else license_text,
        not_a_target=not_a_target,
        val=val,
        seed=seed,
    )
    if finished := find_finished_store(root, command, overwrite):
        return finished
    check_val_share(val)
    _check_arguments(imbalance, unit, bands, spacing)
    source = _read_source(src, not_a_target)
    class_names = _class_names(source, names)
    files, left_out = _select_files(source, val, imbalance, seed)
    groups = [(file.split, file.label) for file in files]
    declared = {"unit": unit, "spacing_m": spacing}
    columns = {"source": src.resolve().name} | {name: value for name, value in declared.items() if value is not None}
    records = [
        ChipRecord(name, file.split, class_names[file.label], file.path, selected_bands=bands, extra_columns=columns)
        for name, file in zip(make_chip_names([file.path for file in files], groups, source.root), files, strict=True)
    ]
    description = StoreDescription(
        name=root.resolve().name,
        classes=[class_names[label] for label in source.classes],
        command=command,
        skipped=source.skipped + left_out,
        rejected=source.rejected,
        license=license_text,
    )
    return build_store(root, records, description, overwrite=overwrite, progress=progress)


def _read_source(src: Path, not_a_target: str | None) -> LabeledFiles | LabelTable:
    if src.suffix.lower() == ".csv":
        return LabelTable(src, not_a_target)
    if not_a_target is not None:
        raise RequestError("only a .csv file has verdicts", "--not-a-target", "leave out --not-a-target")
    return LabeledFiles(src)


def _check_arguments(
    imbalance: float | None, unit: str | None, bands: tuple[str, ...] | None, spacing: float | None
) -> None:
    if spacing is not None and not 0 < spacing < math.inf:
        raise RequestError(f"the pixel spacing is {spacing} m", "--spacing", "give meters per pixel, such as 10")
    if imbalance is not None and imbalance < 1:
        raise RequestError(f"the imbalance is {imbalance}", "--imbalance", "give largest / smallest class, at least 1")
    if unit is not None:
        try:
            parse_unit(unit)
        except DataError as error:
            raise RequestError(error.message, "--unit", "correct the name of the unit") from error
    check_bands(bands or ())


def _select_files(
    source: LabeledFiles | LabelTable, val: float, imbalance: float | None, seed: int
) -> tuple[list[LabeledFile], Counter[str]]:
    """Return the files with their splits, and the number of training files left out, by reason."""
    train = [file for file in source.files if file.split == "train"]
    others = [file for file in source.files if file.split != "train"]
    if val and not any(file.split == "val" for file in others):
        train, held_out = hold_out(train, val, seed)
        others += held_out
    if imbalance is None:
        return train + others, Counter()
    selected = subsample_long_tail(train, source.classes, imbalance, seed)
    left_out = {f"training chip, to reach an imbalance of {imbalance:g}": len(train) - len(selected)}
    return selected + others, Counter(left_out)


def _class_names(source: LabeledFiles | LabelTable, names: Mapping[str, str] | Path | None) -> dict[str, str]:
    """Return the name of each class of the source, which `names` may replace.

    Raises:
        RequestError: a class has no name, or two classes have the same name.
    """
    if names is None:
        return {label: label for label in source.classes}
    if isinstance(names, Path):
        names = _read_class_names(names)
    missing = [label for label in source.classes if label not in names]
    if missing:
        raise RequestError(f"no name for {', '.join(missing)}", "--names", "give every class folder a name")
    class_names = {label: names[label] for label in source.classes}
    counts = Counter(class_names.values())
    faulty = [name for name in class_names.values() if counts[name] > 1 or describe_row_fault(name, name)]
    if faulty:
        message = f"{faulty[0][:300]!r} is used twice or cannot name a folder"
        raise RequestError(message, "--names", "choose another name")
    return class_names


def _read_class_names(path: Path) -> dict[str, str]:
    """Read a text file with one `folder name` pair per line.

    Raises:
        RequestError: a line has no name.
    """
    pairs = [(number, line.split(maxsplit=1)) for number, line in read_numbered_lines(path)]
    incomplete = [number for number, pair in pairs if len(pair) != 2]
    if incomplete:
        raise RequestError(
            "the line is not a `folder name` pair", f"{path}:{incomplete[0]}", "give each class folder a name"
        )
    return {folder: name for _, (folder, name) in pairs}


PUBLISHED_LISTS: dict[str, PublishedLists] = {"places-lt": PLACES_LT, "inat2018": INATURALIST_2018}
"""Lists by the name of their command."""

_LICENSES = {"inat2018": "non-commercial, research-only"}
"""Licenses of the images by the name of their command. None is known for those of Places."""


def prepare_list_files(
    name: str,
    src: Path,
    root: Path,
    *,
    lists: Path | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> ChipStore:
    """Build a chip store of the images in the list files of a data set.

    rejected.csv contains the differences between the lists and the published ones.

    Args:
        name: a key of `PUBLISHED_LISTS`.
        src: the folder that the paths in the lists are relative to.
        root: folder of the chip store.
        lists: folder of the list files; by default `src`.
        overwrite: replace an existing chip store at `root`.
        progress: called after each chip.

    Returns:
        The chip store.

    Raises:
        RequestError: the lists are missing, none of their images is in `src`, or `root` is not empty.
        DataError: no image can be used.
    """
    command = format_prepare_command(name, src, root=root, lists=lists)
    if finished := find_finished_store(root, command, overwrite):
        return finished
    source = ListFiles(PUBLISHED_LISTS[name], src, lists)
    description = StoreDescription(
        name=source.published.title,
        classes=source.classes,
        command=command,
        rejected=[*((str(source.lists), 0, difference) for difference in source.differences), *source.rejected],
        license=_LICENSES.get(name, UNKNOWN),
    )
    return build_store(root, _RecordStream(source), description, overwrite=overwrite, progress=progress)


class _RecordStream:
    """The records of a data set, made one at a time, because half a million would fill the memory."""

    def __init__(self, source: ListFiles) -> None:
        self.source = source

    def __len__(self) -> int:
        return len(self.source.table)

    def __iter__(self) -> Iterator[ChipRecord]:
        columns = {"source": self.source.published.title}
        table = self.source.table
        for split, path, label in zip(table["split"], table["path"], table["class"], strict=True):
            name = path.replace("/", "__").replace(".", "_")
            yield ChipRecord(name, split, label, self.source.root / path, extra_columns=columns)
