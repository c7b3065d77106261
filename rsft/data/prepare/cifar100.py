"""Build a chip store of CIFAR100-LT, the long-tailed CIFAR-100 of Cao et al. 2019 (LDAM)."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from rsft.data.chips.builder import ChipRecord, StoreDescription, build_store, find_finished_store
from rsft.data.chips.store import ChipStore
from rsft.data.datasets.cifar100 import CIFAR100, CLASSES, CIFARImage
from rsft.data.prepare.common import (
    check_val_share,
    format_prepare_command,
    hold_out,
    make_chip_names,
    subsample_long_tail,
)
from rsft.errors import RequestError
from rsft.types import Progress
from rsft.utils.archives import open_source_tree


def prepare_cifar100(
    src: Path,
    root: Path,
    *,
    ratio: float = 100,
    val: float = 0.1,
    seed: int = 0,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> ChipStore:
    """Build a chip store of CIFAR100-LT; a ratio of 100 gives 10,847 training images.

    Args:
        src: a folder or archive with CIFAR-100, see `CIFAR100`.
        root: folder of the chip store.
        ratio: size of the largest training class over that of the smallest. All classes have the same size, so they are
            ranked by label. A source that already has this long tail is left unchanged.
        val: share of each class of the *test* images that becomes the validation split. All training images are kept.
        seed: seed of every random choice.
        overwrite: replace an existing chip store at `root`.
        progress: called after each chip.

    Returns:
        The chip store.

    Raises:
        RequestError: `src` contains no CIFAR-100, `root` is not empty, or an argument is out of range.
        DataError: the source is damaged, or no image can be used.
    """
    command = format_prepare_command("cifar100-lt", src, root=root, ratio=ratio, val=val, seed=seed)
    if finished := find_finished_store(root, command, overwrite):
        return finished
    if ratio < 1:
        raise RequestError(f"the ratio is {ratio}", "--ratio", "give largest / smallest class, at least 1")
    check_val_share(val)
    with open_source_tree(src, root, progress) as folder:
        source = CIFAR100(folder)
        all_train = [image for image in source.images if image.split == "train"]
        others = [image for image in source.images if image.split != "train"]
        train = subsample_long_tail(all_train, CLASSES, ratio, seed)
        if val and not any(image.split == "val" for image in others):
            others, held_out = hold_out(others, val, seed)
            others += held_out
        left_out = {f"training image, to reach a ratio of {ratio:g}": len(all_train) - len(train)}
        description = StoreDescription(
            name=f"CIFAR100-LT, ratio {ratio:g}",
            classes=CLASSES,
            command=command,
            skipped=source.skipped + Counter(left_out),
            rejected=source.rejected,
        )
        records = _make_records(train + others, source.root)
        return build_store(root, records, description, overwrite=overwrite, progress=progress)


def _make_records(images: list[CIFARImage], root: Path) -> list[ChipRecord]:
    groups = [(image.split, image.label) for image in images]
    names = make_chip_names([image.path for image in images], groups, root)
    columns = {"source": "CIFAR-100"}
    return [
        ChipRecord(name, image.split, image.label, image.path, extra_columns=columns)
        if image.read_pixels is None
        else ChipRecord(
            *(f"{image.index:05}", image.split, image.label, image.path),
            *(image.read_pixels, image.index + 1),
            extra_columns=columns,
        )
        for name, image in zip(names, images, strict=True)
    ]
