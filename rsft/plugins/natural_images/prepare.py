"""Build chip stores of CIFAR100-LT, Places-LT and iNaturalist 2018.

CIFAR100-LT is the long-tailed CIFAR-100 of Cao et al. 2019 (LDAM). Places-LT and
iNaturalist 2018 are long-tailed as published.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rsft.data.prepare.image_folder import check_imbalance
from rsft.data.prepare.registry import PAPER, data_set
from rsft.data.prepare.store_build import StoreBuild, builds_store

if TYPE_CHECKING:
    from rsft.data.chips.record import ChipRecord
    from rsft.data.chips.store import ChipStore
    from rsft.plugins.natural_images.cifar100 import CIFAR100
    from rsft.plugins.natural_images.list_files import ListFiles, PublishedLists
    from rsft.types import Progress


@data_set("cifar100-lt", PAPER)
@builds_store("cifar100-lt")
def prepare_cifar100(
    build: StoreBuild,
    source: Path | None,
    root: Path,
    imbalance: float = 100,
    val: float = 0.1,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> ChipStore:
    """Build a chip store of long-tailed CIFAR-100, with 10,847 training images.

    All classes have the same size, so they are ranked by label. A source that already
    has this long tail is left unchanged. All training images are kept for training.

    Args:
        source: Folder or archive of CIFAR-100: the published Python files, or PNG class
            folders (default: search in ROOT, beside it and in raw/).
        imbalance: Make the training split long-tailed: largest class / smallest class.
        val: Share of each class of the test images for validation.

    Raises:
        RequestError: `source` is missing, ambiguous or contains no CIFAR-100, `root` is
            not empty, or an argument is out of range.
        DataError: the source is damaged, or no image can be used.
    """
    from rsft.data.chips.record import StoreDescription
    from rsft.data.datasets.source_errors import open_source
    from rsft.data.datasets.splits import check_val_share
    from rsft.plugins.natural_images.archives import CIFAR_100_ARCHIVE
    from rsft.plugins.natural_images.cifar100 import CIFAR100, CLASSES

    check_imbalance(imbalance)
    check_val_share(val)
    with build.open_source() as folder:
        dataset = open_source(
            CIFAR_100_ARCHIVE,
            folder,
            CIFAR_100_ARCHIVE.name,
            CIFAR100,
        )
        records, skipped = _list_cifar_records(dataset, imbalance, val)
        description = StoreDescription(
            f"CIFAR100-LT, imbalance {imbalance:g}",
            CLASSES,
            build.command,
            skipped=skipped,
            rejected=dataset.rejected,
        )
        return build.write(records, description)


def _list_cifar_records(
    dataset: CIFAR100, imbalance: float, val: float
) -> tuple[list[ChipRecord], Counter[str]]:
    """Return the records of the long tail, and the number of skipped images."""
    from rsft.data.chips.record import ChipRecord
    from rsft.data.datasets.chip_names import make_chip_names
    from rsft.data.datasets.splits import hold_out, subsample_long_tail
    from rsft.plugins.natural_images.cifar100 import CLASSES

    train = [image for image in dataset.images if image.split == "train"]
    others = [image for image in dataset.images if image.split != "train"]
    images = subsample_long_tail(train, CLASSES, imbalance, seed=0)
    reason = f"training image, to reach an imbalance of {imbalance:g}"
    skipped = dataset.skipped + Counter({reason: len(train) - len(images)})
    if val and not any(image.split == "val" for image in others):
        test, held_out = hold_out(others, val, seed=0)
        others = test + held_out
    images += others
    names = make_chip_names(
        [image.path for image in images],
        [(image.split, image.label) for image in images],
        dataset.root,
    )
    records = [
        ChipRecord(
            f"{image.line - 1:05}" if image.line else name,
            image.split,
            image.label,
            image.path,
            image.read_pixels,
            image.line,
            extra_columns={"source": "CIFAR-100"},
        )
        for name, image in zip(names, images, strict=True)
    ]
    return records, skipped


@data_set("places-lt", PAPER)
@builds_store("places-lt")
def prepare_places_lt(
    build: StoreBuild,
    source: Path | None,
    root: Path,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> ChipStore:
    """Build a chip store of Places-LT from Places_LT_train.txt and so on.

    rejected.csv contains the lists that differ in length from the published ones. The
    license of the images is unknown.

    Args:
        source: Folder of Places365 that the paths in the lists are relative to
            (default: search in ROOT, beside it and in raw/).

    Raises:
        RequestError: the folder or the lists are missing, none of their images is in
            `source`, or `root` is not empty.
        DataError: no image can be used.
    """
    from rsft.plugins.natural_images.list_files import PLACES_LT

    return _build_list_store(build, PLACES_LT)


@data_set("inat2018", PAPER)
@builds_store("inat2018")
def prepare_inat2018(
    build: StoreBuild,
    source: Path | None,
    root: Path,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> ChipStore:
    """Build a chip store of iNaturalist 2018 from iNaturalist18_train.txt and so on.

    rejected.csv contains the lists that differ in length from the published ones.

    Args:
        source: Folder that contains train_val2018/ (default: search in ROOT, beside it
            and in raw/).

    Raises:
        RequestError: the folder or the lists are missing, none of their images is in
            `source`, or `root` is not empty.
        DataError: no image can be used.
    """
    from rsft.plugins.natural_images.list_files import INATURALIST_2018

    return _build_list_store(build, INATURALIST_2018)


def _build_list_store(build: StoreBuild, published: PublishedLists) -> ChipStore:
    from rsft.data.chips.record import StoreDescription
    from rsft.data.datasets.source_errors import explain_wrong_source
    from rsft.plugins.natural_images.list_files import ListFiles

    with explain_wrong_source(published.archive, build.source_path):
        files = ListFiles(published, build.source_path)
    description = StoreDescription(
        published.title,
        files.classes,
        build.command,
        rejected=files.rejected,
        license=published.license,
    )
    return build.write(_list_records(files), description, len(files.images))


def _list_records(files: ListFiles) -> Iterator[ChipRecord]:
    from rsft.data.chips.record import ChipRecord

    columns = {"source": files.published.title}
    for split, path, label in files.images:
        name = path.replace("/", "__").replace(".", "_")
        yield ChipRecord(name, split, label, files.root / path, extra_columns=columns)
