"""Build a chip store of any labeled images: class folders, list files or a table."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rsft.data.prepare.registry import data_set, format_prepare_command
from rsft.errors import DataError, RequestError
from rsft.utils.licenses import UNKNOWN

if TYPE_CHECKING:
    from rsft.data.chips.record import ChipRecord
    from rsft.data.chips.store import ChipStore
    from rsft.data.datasets.formats.labeled_files import LabeledFile
    from rsft.types import Progress


def find_typos(store: ChipStore, arguments: Mapping[str, Any]) -> Iterator[str]:
    """Yield a warning for each rare class whose name may be a typing error of a common one, with their counts."""
    from rsft.data.chips.store import find_label_typos

    counts = sum(map(Counter[str], store.counts.values()), Counter[str]())
    for rare, common in find_label_typos(counts):
        total = f"{counts[rare]:,} of {sum(counts.values()):,} chips"
        yield (
            f"warning: {rare} ({total}) may be a typo of {common} ({counts[common]:,})"
        )


@data_set("folder", notes=find_typos, is_published=False)
def prepare_folder(
    source: Path,
    root: Path,
    imbalance: Annotated[float | None, typer.Option(min=1)] = None,
    val: float = 0.2,
    test: float | None = None,
    names: Path | None = None,
    unit: str | None = None,
    bands: tuple[str, ...] | None = None,
    spacing: Annotated[float | None, typer.Option(min=0.001)] = None,
    license: str = UNKNOWN,
    not_a_target: str | None = None,
    one_class: bool = False,
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
        names: Text file of class names: one `folder name` pair per line.
        unit: Unit of the pixels: amplitude, intensity, sigma0, db, gamma0, gamma0_db or
            beta0. Floats need it, unless the tags of their TIFF files name it.
        bands: Bands to store, such as VV. TIFF files may name more bands; for other
            files, give the names of all bands in order (default: the names in the file,
            or gray, or R,G,B).
        spacing: Pixel spacing in meters. The model then refuses scenes of another
            spacing.
        license: License of the images: an SPDX identifier, or a text with restrictions.
        not_a_target: Class of the rows whose verdict is `not a target`, such as clutter
            (default: left out).
        one_class: Build even if all images have one class.

    Raises:
        RequestError: `source` has no labeled image or a single class, `root` is not
            empty, or an argument is out of range.
        DataError: no image can be used.
    """
    from rsft.data.chips.builder import build_store, find_finished_store
    from rsft.data.chips.record import ChipRecord, StoreDescription, describe_rejections
    from rsft.data.datasets.chip_names import make_chip_names
    from rsft.data.datasets.formats.label_table import LabelTable
    from rsft.data.datasets.formats.labeled_files import LabeledFiles
    from rsft.data.datasets.splits import check_val_share, subsample_long_tail

    options = {
        "imbalance": imbalance,
        "names": names,
        "unit": unit,
        "bands": bands,
        "spacing": spacing,
    }
    options |= {
        "license": None if license == UNKNOWN else license,
        "not_a_target": not_a_target,
    }
    options |= {"one_class": one_class, "test": test}
    command = format_prepare_command(
        "folder", source, root=root, **options, val=val, seed=seed
    )
    finished = find_finished_store(root, command, overwrite)
    if finished:
        return finished
    check_val_share(val)
    if test is not None and not 0 < test < 1:
        raise RequestError(
            f"the test share is {test}", "--test", "give a share above 0 and below 1"
        )
    _check(imbalance, unit, bands, spacing)
    if source.suffix.lower() != ".csv" and not_a_target is not None:
        raise RequestError(
            "only a .csv file has verdicts",
            "--not-a-target",
            "leave out --not-a-target",
        )
    files = (
        LabelTable(source, not_a_target)
        if source.suffix.lower() == ".csv"
        else LabeledFiles(source)
    )
    class_names = _class_names(files.classes, names)
    if len(class_names) == 1 and not one_class:
        raise RequestError(
            f"all {len(files.files):,} images have the class {files.classes[0]}",
            source,
            "; ".join(
                filter(
                    None,
                    [
                        "give the folder that contains the class folders, or add --one-class",
                        describe_rejections(files.rejected),
                    ],
                )
            ),
        )
    selected, others = _split_files(files.files, val, test, seed)
    skipped = files.skipped
    if imbalance is not None:
        train = selected
        selected = subsample_long_tail(selected, files.classes, imbalance, seed)
        skipped += Counter(
            {
                f"training chip, to reach an imbalance of {imbalance:g}": (
                    len(train) - len(selected)
                )
            }
        )
    selected += others
    columns = {"source": source.resolve().name, "unit": unit, "spacing_m": spacing}
    columns = {key: value for key, value in columns.items() if value is not None}

    def records() -> Iterator[ChipRecord]:
        groups = ((file.split, file.label) for file in selected)
        names = make_chip_names([file.name for file in selected], groups, files.root)
        for name, file in zip(names, selected, strict=True):
            label = class_names[file.label]
            yield ChipRecord(
                name,
                file.split,
                label,
                file.path,
                selected_bands=bands,
                extra_columns=columns,
            )

    title = root.resolve().name
    labels = [class_names[label] for label in files.classes]
    total = len(selected)
    description = StoreDescription(
        title,
        labels,
        command,
        skipped=skipped,
        rejected=files.rejected,
        license=license,
    )
    return build_store(
        root,
        records(),
        description,
        total=total,
        overwrite=overwrite,
        progress=progress,
    )


def _split_files(
    files: list[LabeledFile], val: float, test: float | None, seed: int
) -> tuple[list[LabeledFile], list[LabeledFile]]:
    """Return the training files and the others, with a validation and a test split as far as they are asked for."""
    from rsft.data.datasets.splits import hold_out, split_off_test

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
        others += (
            held_out
            if test is None
            else split_off_test(held_out, test / held_out_share)
        )
    return train, others


def _check(
    imbalance: float | None,
    unit: str | None,
    bands: tuple[str, ...] | None,
    spacing: float | None,
) -> None:
    from rsft.data.imagery.bands import check_bands
    from rsft.data.imagery.units import parse_unit

    if spacing is not None and not 0 < spacing < math.inf:
        raise RequestError(
            f"the pixel spacing is {spacing} m",
            "--spacing",
            "give meters per pixel, such as 10",
        )
    if imbalance is not None and imbalance < 1:
        raise RequestError(
            f"the imbalance is {imbalance}",
            "--imbalance",
            "give largest / smallest class, at least 1",
        )
    if unit is not None:
        try:
            parse_unit(unit)
        except DataError as error:
            raise RequestError(
                error.message, "--unit", "correct the name of the unit"
            ) from error
    check_bands(bands or ())


def _class_names(classes: list[str], path: Path | None) -> dict[str, str]:
    """Return the name of each class, which a text file with one `folder name` pair per line may replace."""
    from rsft.data.datasets.formats.label_rows import (
        describe_row_fault,
        read_numbered_lines,
    )

    if path is None:
        return {label: label for label in classes}
    pairs = [
        (number, line.split(maxsplit=1)) for number, line in read_numbered_lines(path)
    ]
    incomplete = [number for number, pair in pairs if len(pair) != 2]
    if incomplete:
        raise RequestError(
            "the line is not a `folder name` pair",
            f"{path}:{incomplete[0]}",
            "give each class folder a name",
        )
    names = dict(pair for _, pair in pairs)
    missing = [label for label in classes if label not in names]
    if missing:
        raise RequestError(
            f"no name for {', '.join(missing)}", path, "give every class folder a name"
        )
    class_names = {label: names[label] for label in classes}
    counts = Counter(class_names.values())
    for name in class_names.values():
        if counts[name] > 1 or describe_row_fault(name, name):
            raise RequestError(
                f"{name[:300]!r} is used twice or cannot name a folder",
                path,
                "choose another name",
            )
    return class_names
