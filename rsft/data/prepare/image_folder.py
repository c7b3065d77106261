"""A tree of class folders, list files or a table into a chip store; a long tail is made on request."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from rsft.data.chips.builder import Plan, Record, build_store, check_free
from rsft.data.chips.store import ChipStore
from rsft.data.datasets._text import numbered_lines
from rsft.data.datasets.image_folder import ImageFolderLT, LabelledFile
from rsft.data.datasets.label_table import LabelTable
from rsft.data.imagery.bands import check_bands
from rsft.data.imagery.units import UNITS
from rsft.data.prepare._command import prepare_command
from rsft.data.prepare._names import chip_names
from rsft.data.prepare._resampling import check_share, set_aside, thin
from rsft.errors import RequestError
from rsft.types import Progress


def prepare_folder(
    src: Path,
    root: Path,
    *,
    imbalance: float | None = None,
    val: float = 0.2,
    names: Mapping[str, str] | Path | None = None,
    unit: str | None = None,
    bands: tuple[str, ...] | None = None,
    seed: int = 0,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> ChipStore:
    """Copy the labelled images of `src`, as `ImageFolderLT` or, of a .csv, `LabelTable` finds them, into `root`.

    Args:
        imbalance: largest class / smallest class of the training split, thinned to `long_tail_counts`: classes are
            ranked by descending count, ties in class order. Other splits stay as they are.
        val: share of each training class set aside for validation, where `src` has no validation split.
        names: what to call the classes, or a text file with one `folder name` pair a line.
        unit: of the pixels; floats must say it.
        bands: their names in the order of the files; gray or R, G, B where left out.

    Raises:
        RequestError: `src` has no labelled image, `root` is taken, or an argument is out of range.
        DataError: no image can be used.
    """
    check_free(root, overwrite)
    check_share(val)
    _check(imbalance, unit, bands)
    source = LabelTable(src) if src.suffix.lower() == ".csv" else ImageFolderLT(src)
    titles = _titles(source, names)
    files, left_out = _chosen(source, val, imbalance, seed)
    groups = [(file.split, file.label) for file in files]
    facts = {"source": src.resolve().name} | ({"unit": unit} if unit else {})
    records = [
        Record(name, file.split, titles[file.label], file.path, bands=bands, facts=facts)
        for name, file in zip(chip_names([file.path for file in files], groups, source.root), files, strict=True)
    ]
    plan = Plan(
        name=root.resolve().name,
        classes=[titles[label] for label in source.classes],
        command=prepare_command(
            "folder",
            src,
            root=root,
            imbalance=imbalance,
            names=names if isinstance(names, Path) else None,
            unit=unit,
            bands=",".join(bands) if bands else None,
            val=val,
            seed=seed,
        ),
        skipped=source.skipped + left_out,
        rejected=source.rejected,
    )
    return build_store(root, records, plan, overwrite=overwrite, progress=progress)


def _check(imbalance: float | None, unit: str | None, bands: tuple[str, ...] | None) -> None:
    if imbalance is not None and imbalance < 1:
        raise RequestError(f"an imbalance of {imbalance}", "--imbalance", "give largest / smallest class, at least 1")
    if unit is not None and unit not in UNITS:
        raise RequestError(f"no unit is called {unit}", "--unit", f"choose one of {', '.join(UNITS)}")
    check_bands(bands or ())


def _chosen(
    source: ImageFolderLT | LabelTable, val: float, imbalance: float | None, seed: int
) -> tuple[list[LabelledFile], Counter[str]]:
    """The files with their splits, and how many training files were left out, with the reason."""
    train = [file for file in source.files if file.split == "train"]
    others = [file for file in source.files if file.split != "train"]
    if val and not any(file.split == "val" for file in others):
        train, aside = set_aside(train, val, seed)
        others += aside
    if imbalance is None:
        return train + others, Counter()
    kept = thin(train, source.classes, imbalance, seed)
    left_out = {f"of the training chips, for an imbalance of {imbalance:g}": len(train) - len(kept)}
    return kept + others, Counter(left_out)


def _titles(source: ImageFolderLT | LabelTable, names: Mapping[str, str] | Path | None) -> dict[str, str]:
    """What each class is called.

    Raises:
        RequestError: a class without a name, or two with one.
    """
    if names is None:
        return {label: label for label in source.classes}
    if isinstance(names, Path):
        pairs = [(number, line.split(maxsplit=1)) for number, line in numbered_lines(names)]
        short = [number for number, pair in pairs if len(pair) != 2]
        if short:
            raise RequestError("a row is `folder name`", f"{names}:{short[0]}", "give each class folder a name")
        names = {folder: name for _, (folder, name) in pairs}
    missing = [label for label in source.classes if label not in names]
    if missing:
        raise RequestError(f"no name for {', '.join(missing)}", "--names", "give every class folder a name")
    titles = {label: names[label] for label in source.classes}
    faulty = [name for name in titles.values() if list(titles.values()).count(name) > 1 or Path(name).name != name]
    if faulty:
        raise RequestError(f"{faulty[0]!r} is used twice or cannot name a folder", "--names", "choose another name")
    return titles
