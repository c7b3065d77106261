"""CIFAR-100 into a chip store with a long tail: CIFAR100-LT (Cao et al. 2019, LDAM)."""

from __future__ import annotations

import shlex
from collections import Counter
from dataclasses import replace
from pathlib import Path

from rsft.chips.build import Plan, Progress, Record, build_store, check_free
from rsft.chips.longtail import draw, long_tail_counts, stratified_split
from rsft.chips.store import ChipStore
from rsft.errors import RequestError
from rsft.prepare.names import chip_names
from rsft.prepare.unpacked import unpacked
from rsft.sources.cifar import CIFAR100, CLASSES, CIFARImage


def prepare_cifar100(
    root: Path,
    *,
    src: Path,
    ratio: float = 100,
    val: float = 0.1,
    seed: int = 0,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> ChipStore:
    """Write CIFAR100-LT into the chip store `root`; at a ratio of 100 it has 10,847 training images.

    Args:
        src: a folder or an archive that holds CIFAR-100, see `CIFAR100`.
        ratio: largest class / smallest class of the training split. Classes are ranked in the order of their labels, as
            all are of one size; a tree that has this long tail already stays as it is.
        val: share of each class of the *test* images that becomes the validation split: no training image is spared.

    Raises:
        RequestError: no CIFAR-100 in `src`, `root` is taken, or an argument is out of range.
        DataError: it is damaged, or no image can be used.
    """
    check_free(root, overwrite)
    if ratio < 1:
        raise RequestError(f"a ratio of {ratio}", "--ratio", "give largest / smallest class, at least 1")
    if not 0 <= val < 1:
        raise RequestError(f"a validation share of {val}", "--val", "give a share from 0 up to, not including, 1")
    with unpacked(src, root, progress) as folder:
        source = CIFAR100(folder)
        train = _long_tail([image for image in source.images if image.split == "train"], ratio, seed)
        rest = _set_aside([image for image in source.images if image.split != "train"], val, seed)
        left_out = len(source) - len(train) - len(rest)
        skipped = source.skipped + Counter({f"training image, for a ratio of {ratio:g}": left_out})
        words = ["rsft", "prepare", "cifar100-lt", str(src), "--root", str(root)]
        plan = Plan(
            name=f"CIFAR100-LT, ratio {ratio:g}",
            classes=CLASSES,
            command=shlex.join([*words, "--ratio", f"{ratio:g}", "--val", f"{val:g}", "--seed", str(seed)]),
            skipped=skipped,
            rejected=source.rejected,
        )
        records = _records(train + rest, source.root)
        return build_store(root, records, plan, overwrite=overwrite, progress=progress)


def _long_tail(images: list[CIFARImage], ratio: float, seed: int) -> list[CIFARImage]:
    labels = [image.label for image in images]
    found = Counter(labels)
    available = {label: found[label] for label in CLASSES if found[label]}
    return [images[index] for index in draw(labels, long_tail_counts(available, ratio), seed)]


def _set_aside(images: list[CIFARImage], share: float, seed: int) -> list[CIFARImage]:
    """Move a share of each class to the validation split, unless there is one."""
    if not share or any(image.split == "val" for image in images):
        return images
    _, chosen = stratified_split([image.label for image in images], share, seed)
    moved = set(chosen.tolist())
    return [replace(image, split="val") if index in moved else image for index, image in enumerate(images)]


def _records(images: list[CIFARImage], root: Path) -> list[Record]:
    groups = [(image.split, image.label) for image in images]
    names = chip_names([image.path for image in images], groups, root)
    facts = {"source": "CIFAR-100"}
    return [
        Record(name, image.split, image.label, image.path, facts=facts)
        if image.cut is None
        else Record(f"{image.index:05}", image.split, image.label, image.path, image.cut, image.index + 1, facts=facts)
        for name, image in zip(names, images, strict=True)
    ]
