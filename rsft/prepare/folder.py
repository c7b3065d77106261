"""A tree of class folders, or list files, into a chip store; a long tail is made on request."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from rsft.chips.build import Plan, Progress, Record, build_store, check_free
from rsft.chips.longtail import draw, long_tail_counts, stratified_split
from rsft.chips.store import ChipStore
from rsft.errors import RequestError
from rsft.prepare.names import chip_names
from rsft.sources.folder import ImageFolderLT, LabelledFile
from rsft.sources.text import numbered_lines


def prepare_folder(
    src: Path,
    root: Path,
    *,
    imbalance: float | None = None,
    val: float = 0.2,
    names: Mapping[str, str] | Path | None = None,
    seed: int = 0,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> ChipStore:
    """Copy the labelled images of `src`, as `ImageFolderLT` finds them, into the chip store `root`.

    Args:
        imbalance: largest class / smallest class of the training split, thinned to `long_tail_counts`: classes are
            ranked by descending count, ties in class order. Other splits stay as they are.
        val: share of each training class set aside for validation, where `src` has no validation split.
        names: what to call the classes, or a text file with one `folder name` pair a line.

    Raises:
        RequestError: `src` has no labelled image, `root` is taken, or an argument is out of range.
        DataError: no image can be used.
    """
    check_free(root, overwrite)
    if not 0 <= val < 1:
        raise RequestError(f"a validation share of {val}", "--val", "give a share from 0 up to, not including, 1")
    if imbalance is not None and imbalance < 1:
        raise RequestError(f"an imbalance of {imbalance}", "--imbalance", "give largest / smallest class, at least 1")
    source = ImageFolderLT(src)
    titles = _titles(source, names)
    files, skipped = source.files, Counter(source.skipped)
    if val and not any(file.split == "val" for file in files):
        files = _set_aside(files, val, seed)
    if imbalance is not None:
        kept = _thin(files, source.classes, imbalance, seed)
        skipped[f"training chip, for an imbalance of {imbalance:g}"] = len(files) - len(kept)
        files = kept
    groups = [(file.split, file.label) for file in files]
    records = [
        Record(name, file.split, titles[file.label], file.path, facts={"source": src.resolve().name})
        for name, file in zip(chip_names([file.path for file in files], groups, src), files, strict=True)
    ]
    plan = Plan(
        name=root.resolve().name,
        classes=[titles[label] for label in source.classes],
        command=_command(src, root, imbalance, val, names, seed),
        skipped=skipped,
        rejected=source.rejected,
    )
    return build_store(root, records, plan, overwrite=overwrite, progress=progress)


def _set_aside(files: list[LabelledFile], share: float, seed: int) -> list[LabelledFile]:
    """Move a share of each training class to the validation split."""
    train = [index for index, file in enumerate(files) if file.split == "train"]
    _, chosen = stratified_split([files[index].label for index in train], share, seed)
    moved = {train[index] for index in chosen}
    return [replace(file, split="val") if index in moved else file for index, file in enumerate(files)]


def _thin(files: list[LabelledFile], classes: list[str], imbalance: float, seed: int) -> list[LabelledFile]:
    """Thin the training split to the exponential profile."""
    train = [file for file in files if file.split == "train"]
    labels = [file.label for file in train]
    available = {label: labels.count(label) for label in classes if label in set(labels)}
    kept = draw(labels, long_tail_counts(available, imbalance), seed)
    return [train[index] for index in kept] + [file for file in files if file.split != "train"]


def _titles(source: ImageFolderLT, names: Mapping[str, str] | Path | None) -> dict[str, str]:
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


def _command(
    src: Path, root: Path, imbalance: float | None, val: float, names: Mapping[str, str] | Path | None, seed: int
) -> str:
    words = ["rsft", "prepare", "folder", str(src), "--root", str(root)]
    if imbalance is not None:
        words += ["--imbalance", f"{imbalance:g}"]
    if isinstance(names, Path):
        words += ["--names", str(names)]
    return shlex.join([*words, "--val", f"{val:g}", "--seed", str(seed)])
