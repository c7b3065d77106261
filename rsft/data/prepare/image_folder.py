"""Build a chip store of any labeled images: class folders, list files or a table."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rsft.data.datasets.rare_classes import RareClasses, resolve_rare
from rsft.data.prepare.registry import data_set
from rsft.data.prepare.store_build import (
    StoreBuild,
    builds_store,
    parse_unit_option,
)
from rsft.errors import RequestError
from rsft.utils.licenses import UNKNOWN

if TYPE_CHECKING:
    from rsft.data.chips.record import ChipRecord
    from rsft.data.chips.store import ChipStore
    from rsft.data.datasets.formats.label_table import LabelTable
    from rsft.data.datasets.formats.labeled_files import LabeledFile, LabeledFiles
    from rsft.types import Bands, Progress


def find_typos(store: ChipStore, arguments: Mapping[str, Any]) -> Iterator[str]:
    """Yield a warning for each rare class that may be a typo of a common one."""
    from rsft.data.chips.class_names import find_label_typos

    counts = Counter[str]()
    for chips in store.counts.values():
        counts.update(chips)
    for rare, common in find_label_typos(counts):
        share = f"{counts[rare]:,} of {counts.total():,} chips"
        yield (
            f"warning: {rare} ({share}) may be a typo of {common} ({counts[common]:,})"
        )


@data_set("folder", notes=find_typos, is_published=False)
@builds_store("folder")
def prepare_folder(
    build: StoreBuild,
    source: Path,
    root: Path,
    imbalance: float | None = None,
    val: float = 0.2,
    test: float | None = None,
    unit: str | None = None,
    bands: tuple[str, ...] | None = None,
    spacing: float | None = None,
    license: str = UNKNOWN,
    not_a_target: str | None = None,
    rare: RareClasses | None = None,
    seed: int = 0,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> ChipStore:
    """Build a chip store of labeled image files; the files are copied unchanged.

    `LabeledFiles` reads folders, and `LabelTable` a .csv file. The long tail of
    `imbalance` is that of `long_tail_counts`: classes are ranked by descending count,
    ties in class order, and other splits stay unchanged.

    Args:
        source: Class folders (also in train/ val/ test/), path-label lists, or a CSV of
            path,class.
        imbalance: Make the training split long-tailed: largest class / smallest class.
        val: Share of each class for validation, if SOURCE has no validation split.
        test: Share of each class for a test split, if SOURCE has none; of its
            validation split, if it has one (default: no test split).
        unit: Unit of the pixels: amplitude, intensity, sigma0, db, gamma0, gamma0_db or
            beta0. Floats need it, unless the tags of their TIFF files name it.
        bands: Bands to store, such as VV. TIFF files may name more bands; for other
            files, give the names of all bands in order (default: the names in the file,
            or gray, or R,G,B). One name, such as VV or gray, stores one band of gray
            images that were saved as RGB.
        spacing: Pixel spacing in meters. The model then refuses scenes of another
            spacing.
        license: License of the images: an SPDX identifier, or a text with restrictions.
        not_a_target: Class of the rows whose verdict is `not a target`, such as clutter
            (default: left out).
        rare: Classes with fewer than 10 chips: keep them (the default), merge them to
            the class other, or drop them.

    Raises:
        RequestError: `source` has no labeled image, `root` is not empty, or an
            argument is out of range.
        DataError: no image can be used.
    """
    from rsft.data.chips.record import StoreDescription
    from rsft.data.datasets.splits import check_val_share, subsample_long_tail

    check_val_share(val)
    _check_pixels(unit, bands, spacing)
    if imbalance is not None:
        check_imbalance(imbalance)
    files = _read_labels(source, not_a_target)
    labels = [file.label for file in files.files]
    class_names = resolve_rare(files.classes, labels, rare)
    kept = [file for file in files.files if file.label in class_names]
    skipped = files.skipped
    skipped["chip of a rare class"] += len(files.files) - len(kept)
    train, others = _split_files(kept, val, test, seed)
    if imbalance is not None:
        available = len(train)
        train = subsample_long_tail(train, files.classes, imbalance, seed)
        reason = f"training chip, to reach an imbalance of {imbalance:g}"
        skipped[reason] += available - len(train)
    selected = train + others
    columns = {"source": source.resolve().name, "unit": unit, "spacing_m": spacing}
    columns = {key: value for key, value in columns.items() if value is not None}
    description = StoreDescription(
        root.resolve().name,
        list(dict.fromkeys(class_names.values())),
        build.command,
        skipped=+skipped,
        rejected=files.rejected,
        license=license,
    )
    records = _list_records(selected, files.root, class_names, bands, columns)
    return build.write(records, description, len(selected))


def _read_labels(source: Path, not_a_target: str | None) -> LabeledFiles | LabelTable:
    from rsft.data.datasets.formats.label_table import LabelTable
    from rsft.data.datasets.formats.labeled_files import LabeledFiles

    if source.suffix.lower() == ".csv":
        return LabelTable(source, not_a_target)
    if not_a_target is None:
        return LabeledFiles(source)
    raise RequestError(
        "only a .csv file has verdicts", "--not-a-target", "leave out --not-a-target"
    )


def _check_pixels(unit: str | None, bands: Bands | None, spacing: float | None) -> None:
    from rsft.data.imagery.bands import check_bands

    if spacing is not None and not 0 < spacing < math.inf:
        raise RequestError(
            f"the pixel spacing is {spacing} m",
            "--spacing",
            "give meters per pixel, such as 10",
        )
    if unit is not None:
        parse_unit_option(unit)
    check_bands(bands or ())


def check_imbalance(imbalance: float) -> None:
    """Raise RequestError if the largest class is not at least as large as the least."""
    if imbalance < 1:
        raise RequestError(
            f"the imbalance is {imbalance}",
            "--imbalance",
            "give largest / smallest class, at least 1",
        )


def _split_files(
    files: list[LabeledFile], val: float, test: float | None, seed: int
) -> tuple[list[LabeledFile], list[LabeledFile]]:
    """Return the training files and the others, with the requested splits."""
    from rsft.data.datasets.splits import hold_out, split_off_test

    if test is not None and not 0 < test < 1:
        raise RequestError(
            f"the test share is {test}", "--test", "give a share above 0 and below 1"
        )
    train = [file for file in files if file.split == "train"]
    others = [file for file in files if file.split != "train"]
    splits = {file.split for file in others}
    if test is not None and "test" in splits:
        raise RequestError("SOURCE has a test split", "--test", "leave out --test")
    if "val" in splits:
        return train, others if test is None else split_off_test(others, test)
    held_out_share = val + (test or 0)
    if held_out_share >= 1:
        raise RequestError(
            f"the shares are {val} and {test}",
            "--val, --test",
            "give shares with a sum below 1",
        )
    if held_out_share:
        train, held_out = hold_out(train, held_out_share, seed)
        if test is not None:
            held_out = split_off_test(held_out, test / held_out_share)
        others += held_out
    return train, others


def _list_records(
    files: list[LabeledFile],
    root: Path,
    class_names: Mapping[str, str],
    bands: Bands | None,
    columns: dict[str, Any],
) -> Iterator[ChipRecord]:
    from rsft.data.chips.record import ChipRecord
    from rsft.data.datasets.chip_names import make_chip_names

    groups = ((file.split, class_names[file.label]) for file in files)
    names = make_chip_names([file.name for file in files], groups, root)
    for name, file in zip(names, files, strict=True):
        yield ChipRecord(
            name,
            file.split,
            class_names[file.label],
            file.path,
            selected_bands=bands,
            extra_columns=columns,
        )
