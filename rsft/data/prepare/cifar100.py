"""CIFAR-100 into a chip store with a long tail: CIFAR100-LT (Cao et al. 2019, LDAM)."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from rsft.data.chips.builder import Plan, Record, build_store, check_free
from rsft.data.chips.store import ChipStore
from rsft.data.datasets.cifar100 import CIFAR100, CLASSES, CIFARImage
from rsft.data.prepare._command import prepare_command
from rsft.data.prepare._names import chip_names
from rsft.data.prepare._resampling import check_share, set_aside, thin
from rsft.errors import RequestError
from rsft.types import Progress
from rsft.utils.archives.source_tree import unpacked


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
    check_share(val)
    with unpacked(src, root, progress) as folder:
        source = CIFAR100(folder)
        whole = [image for image in source.images if image.split == "train"]
        others = [image for image in source.images if image.split != "train"]
        train = thin(whole, CLASSES, ratio, seed)
        if val and not any(image.split == "val" for image in others):
            others, aside = set_aside(others, val, seed)
            others += aside
        left_out = {f"training image, for a ratio of {ratio:g}": len(whole) - len(train)}
        plan = Plan(
            name=f"CIFAR100-LT, ratio {ratio:g}",
            classes=CLASSES,
            command=prepare_command("cifar100-lt", src, root=root, ratio=ratio, val=val, seed=seed),
            skipped=source.skipped + Counter(left_out),
            rejected=source.rejected,
        )
        records = _records(train + others, source.root)
        return build_store(root, records, plan, overwrite=overwrite, progress=progress)


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
