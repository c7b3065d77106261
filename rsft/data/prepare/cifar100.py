"""Build a chip store of CIFAR100-LT, the long-tailed CIFAR-100 of Cao et al. 2019 (LDAM)."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rsft.data.prepare.registry import PAPER, data_set, format_prepare_command
from rsft.errors import RequestError

if TYPE_CHECKING:
    from rsft.data.chips.store import ChipStore
    from rsft.types import Progress


@data_set("cifar100-lt", PAPER)
def prepare_cifar100(
    source: Path,
    root: Path,
    ratio: Annotated[float, typer.Option(min=1)] = 100,
    val: float = 0.1,
    seed: int = 0,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> ChipStore:
    """Build a chip store of long-tailed CIFAR-100; a ratio of 100 gives 10,847 training images.

    All classes have the same size, so they are ranked by label. A source that already has this long tail is left
    unchanged. All training images are kept for training.

    Args:
        source: Folder or archive of CIFAR-100: the published Python files, or PNG class folders.
        ratio: Largest class / smallest class of the training split.
        val: Share of each class of the test images for validation.

    Raises:
        RequestError: `source` contains no CIFAR-100, `root` is not empty, or an argument is out of range.
        DataError: the source is damaged, or no image can be used.
    """
    from rsft.data.chips.builder import build_store, find_finished_store
    from rsft.data.chips.record import ChipRecord, StoreDescription
    from rsft.data.datasets import common
    from rsft.data.datasets.cifar100 import CIFAR100, CLASSES, PICKLES
    from rsft.utils.archives import open_source_tree

    command = format_prepare_command("cifar100-lt", source, root=root, ratio=ratio, val=val, seed=seed)
    if finished := find_finished_store(root, command, overwrite):
        return finished
    if ratio < 1:
        raise RequestError(f"the ratio is {ratio}", "--ratio", "give largest / smallest class, at least 1")
    common.check_val_share(val)
    with open_source_tree(source, root, progress) as folder:
        hint = f"give the folder that contains {PICKLES}, or train and test"
        with common.translate_dataset_errors("CIFAR-100", folder, hint):
            dataset = CIFAR100(folder, "all")
        train = [image for image in dataset.images if image.split == "train"]
        others = [image for image in dataset.images if image.split != "train"]
        selected = common.subsample_long_tail(train, CLASSES, ratio, seed)
        left_out = {f"training image, to reach a ratio of {ratio:g}": len(train) - len(selected)}
        if val and not any(image.split == "val" for image in others):
            others = [image for part in common.hold_out(others, val, seed) for image in part]
        images = selected + others
        names = common.make_chip_names(
            [image.path for image in images], [(image.split, image.label) for image in images], dataset.root
        )
        records = [
            ChipRecord(name, image.split, image.label, image.path, extra_columns={"source": "CIFAR-100"})
            if image.read_pixels is None
            else ChipRecord(
                *(f"{image.index:05}", image.split, image.label, image.path, image.read_pixels, image.index + 1),
                extra_columns={"source": "CIFAR-100"},
            )
            for name, image in zip(names, images, strict=True)
        ]
        description = StoreDescription(
            name=f"CIFAR100-LT, ratio {ratio:g}",
            classes=CLASSES,
            command=command,
            skipped=dataset.skipped + Counter(left_out),
            rejected=dataset.rejected,
        )
        return build_store(root, records, description, overwrite=overwrite, progress=progress)
