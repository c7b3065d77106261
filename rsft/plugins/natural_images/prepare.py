"""Build chip stores of CIFAR100-LT, Places-LT and iNaturalist 2018.

CIFAR100-LT is the long-tailed CIFAR-100 of Cao et al. 2019 (LDAM). Places-LT and
iNaturalist 2018 are long-tailed as published.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rsft.data.prepare.registry import PAPER, data_set, format_prepare_command
from rsft.errors import RequestError
from rsft.utils.licenses import UNKNOWN

if TYPE_CHECKING:
    from rsft.data.chips.record import ChipRecord
    from rsft.data.chips.store import ChipStore
    from rsft.data.datasets.archive_search import PublishedArchive
    from rsft.plugins.natural_images.list_files import ListFiles, PublishedLists
    from rsft.types import Progress


@data_set("cifar100-lt", PAPER)
def prepare_cifar100(
    source: Path | None,
    root: Path,
    ratio: Annotated[float, typer.Option(min=1)] = 100,
    val: float = 0.1,
    seed: int = 0,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> ChipStore:
    """Build a chip store of long-tailed CIFAR-100; a ratio of 100 gives 10,847 training images.

    All classes have the same size, so they are ranked by label. A source that already
    has this long tail is left unchanged. All training images are kept for training.

    Args:
        source: Folder or archive of CIFAR-100: the published Python files, or PNG class
            folders (default: search in ROOT, beside it and in raw/).
        ratio: Largest class / smallest class of the training split.
        val: Share of each class of the test images for validation.

    Raises:
        RequestError: `source` is missing, ambiguous or contains no CIFAR-100, `root` is
            not empty, or an argument is out of range.
        DataError: the source is damaged, or no image can be used.
    """
    from rsft.data.chips.builder import build_store, find_finished_store
    from rsft.data.chips.record import ChipRecord, StoreDescription
    from rsft.data.datasets.archive_search import locate_source
    from rsft.data.datasets.chip_names import make_chip_names
    from rsft.data.datasets.source_errors import (
        explain_wrong_source,
        translate_dataset_errors,
    )
    from rsft.data.datasets.splits import check_val_share, hold_out, subsample_long_tail
    from rsft.plugins.natural_images.archives import CIFAR_100_ARCHIVE
    from rsft.plugins.natural_images.cifar100 import CIFAR100, CLASSES, PICKLES
    from rsft.utils.source_tree import open_source_tree

    root, source = locate_source(CIFAR_100_ARCHIVE, root, source, overwrite)
    command = format_prepare_command(
        "cifar100-lt", source, root=root, ratio=ratio, val=val, seed=seed
    )
    finished = find_finished_store(root, command, overwrite)
    if finished:
        return finished
    if ratio < 1:
        raise RequestError(
            f"the ratio is {ratio}",
            "--ratio",
            "give largest / smallest class, at least 1",
        )
    check_val_share(val)
    with open_source_tree(source, root, progress) as folder:
        hint = f"give the folder that contains {PICKLES}, or train and test"
        with (
            explain_wrong_source(CIFAR_100_ARCHIVE, folder),
            translate_dataset_errors("CIFAR-100", folder, hint),
        ):
            dataset = CIFAR100(folder, "all")
        train = [image for image in dataset.images if image.split == "train"]
        others = [image for image in dataset.images if image.split != "train"]
        selected = subsample_long_tail(train, CLASSES, ratio, seed)
        left_out = Counter(
            {
                f"training image, to reach a ratio of {ratio:g}": (
                    len(train) - len(selected)
                )
            }
        )
        if val and not any(image.split == "val" for image in others):
            others = [image for part in hold_out(others, val, seed) for image in part]
        images = selected + others
        groups = [(image.split, image.label) for image in images]
        file_names = make_chip_names(
            [image.path for image in images], groups, dataset.root
        )
        names = [
            f"{x.line - 1:05}" if x.line else name
            for name, x in zip(file_names, images, strict=True)
        ]
        columns = {"source": "CIFAR-100"}
        records = [
            ChipRecord(
                name,
                x.split,
                x.label,
                x.path,
                x.read_pixels,
                x.line,
                extra_columns=columns,
            )
            for name, x in zip(names, images, strict=True)
        ]
        name = f"CIFAR100-LT, ratio {ratio:g}"
        skipped = dataset.skipped + left_out
        description = StoreDescription(
            name, CLASSES, command, skipped=skipped, rejected=dataset.rejected
        )
        return build_store(
            root, records, description, overwrite=overwrite, progress=progress
        )


@data_set("places-lt", PAPER)
def prepare_places_lt(
    source: Path | None,
    root: Path,
    lists: Path | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> ChipStore:
    """Build a chip store of Places-LT from the lists Places_LT_train.txt, Places_LT_val.txt and Places_LT_test.txt.

    rejected.csv contains the differences between the lists and the published ones. The
    license of the images is unknown.

    Args:
        source: Folder of Places365 that the paths in the lists are relative to
            (default: search in ROOT, beside it and in raw/).
        lists: Folder of the list files (default: SOURCE).

    Raises:
        RequestError: the folder or the lists are missing, none of their images is in
            `source`, or `root` is not empty.
        DataError: no image can be used.
    """
    from rsft.plugins.natural_images import archives
    from rsft.plugins.natural_images.list_files import PLACES_LT

    return _build_list_store(
        archives.PLACES_LT_ARCHIVE,
        PLACES_LT,
        UNKNOWN,
        source,
        root,
        lists,
        overwrite,
        progress,
    )


@data_set("inat2018", PAPER)
def prepare_inat2018(
    source: Path | None,
    root: Path,
    lists: Path | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> ChipStore:
    """Build a chip store of iNaturalist 2018 from the lists iNaturalist18_train.txt and iNaturalist18_val.txt.

    rejected.csv contains the differences between the lists and the published ones.

    Args:
        source: Folder that contains train_val2018/ (default: search in ROOT, beside it
            and in raw/).
        lists: Folder of the list files (default: SOURCE).

    Raises:
        RequestError: the folder or the lists are missing, none of their images is in
            `source`, or `root` is not empty.
        DataError: no image can be used.
    """
    from rsft.plugins.natural_images import archives
    from rsft.plugins.natural_images.list_files import INATURALIST_2018

    return _build_list_store(
        archives.INATURALIST_2018_ARCHIVE,
        INATURALIST_2018,
        "non-commercial, research-only",
        source,
        root,
        lists,
        overwrite,
        progress,
    )


def _build_list_store(
    archive: PublishedArchive,
    published: PublishedLists,
    license_text: str,
    source: Path | None,
    root: Path,
    lists: Path | None,
    overwrite: bool,
    progress: Progress | None,
) -> ChipStore:
    from rsft.data.chips.builder import build_store, find_finished_store
    from rsft.data.chips.record import StoreDescription
    from rsft.data.datasets.archive_search import locate_source
    from rsft.data.datasets.source_errors import explain_wrong_source
    from rsft.plugins.natural_images.list_files import ListFiles

    root, source = locate_source(archive, root, source, overwrite)
    command = format_prepare_command(archive.command, source, root=root, lists=lists)
    finished = find_finished_store(root, command, overwrite)
    if finished:
        return finished
    with explain_wrong_source(archive, source):
        files = ListFiles(published, source, lists)
    rejected = [
        *((str(files.lists), 0, difference) for difference in files.differences),
        *files.rejected,
    ]
    description = StoreDescription(
        published.title, files.classes, command, rejected=rejected, license=license_text
    )
    records = _list_records(files)
    return build_store(
        root,
        records,
        description,
        total=len(files.table),
        overwrite=overwrite,
        progress=progress,
    )


def _list_records(source: ListFiles) -> Iterator[ChipRecord]:
    from rsft.data.chips.record import ChipRecord

    columns = {"source": source.published.title}
    for split, path, label in zip(
        source.table["split"], source.table["path"], source.table["class"], strict=True
    ):
        name = path.replace("/", "__").replace(".", "_")
        yield ChipRecord(name, split, label, source.root / path, extra_columns=columns)
