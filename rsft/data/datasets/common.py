"""What the builds of chip stores share: names of chips, splits, long tails, gray chips and errors of data sets."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from rsft.data.chips.record import (
    ChipRecord,
    long_tail_counts,
    sample_per_class,
    stratified_split,
)
from rsft.data.datasets._fusar_files import FUSARChip
from rsft.data.datasets._label_files import LabeledFile
from rsft.data.datasets._srsdd_files import SRSDDShip, take_gray_band
from rsft.data.imagery.reader import read_chip
from rsft.data.imagery.scene_uri import LastImageCache
from rsft.errors import DataError, RequestError
from rsft.types import Pixels


def make_chip_names(
    paths: Sequence[str | Path], groups: Iterable[object], root: Path
) -> Iterator[str]:
    """Yield one name per file that is unique within the file's group, for example its split and class.

    Yields:
        The file name without suffix, or `full_chip_name` below `root` where two files
        of one group share it.
    """
    keyed = (
        ascii((group, Path(path).stem)).encode()
        for path, group in zip(paths, groups, strict=True)
    )
    # 8 bytes per chip; names with the same hash by chance become longer, which does no
    # harm
    hashes = np.fromiter(
        (int.from_bytes(sha256(key).digest()[:8]) for key in keyed),
        np.uint64,
        len(paths),
    )
    values, counts = np.unique(hashes, return_counts=True)
    shared = set(values[counts > 1].tolist())
    for path, key in zip(map(Path, paths), hashes.tolist(), strict=True):
        yield full_chip_name(path, root) if key in shared else path.stem


def full_chip_name(path: Path, root: Path) -> str:
    """Return the path of a file below `root` as a name: `a/b.png` becomes `a__b_png`."""
    return "__".join(path.relative_to(root).parts).replace(".", "_")


L = TypeVar("L", bound=LabeledFile)


def check_val_share(val: float) -> None:
    """Raise RequestError if a validation share is not in [0, 1)."""
    if not 0 <= val < 1:
        raise RequestError(
            f"the validation share is {val}",
            "--val",
            "give a share of at least 0 and below 1",
        )


R = TypeVar("R", bound=LabeledFile | ChipRecord)


def hold_out(samples: Sequence[R], share: float, seed: int) -> tuple[list[R], list[R]]:
    """Split off a validation split: a share of each class.

    Returns:
        The remaining samples, and the held-out samples with the split "val".
    """
    if not samples:
        return [], []
    remaining, held_out = stratified_split(
        [sample.label for sample in samples], share, seed
    )
    return [samples[index] for index in remaining], [
        replace(samples[index], split="val") for index in held_out
    ]


def split_off_test(samples: Sequence[R], share: float) -> list[R]:
    """Give a share of the validation samples of each class the split "test", at even steps in their order.

    With a share of 0.5, it is every second sample of a class. No seed is needed, so the
    chips on which settings are chosen and those that are reported stay apart in every
    store of the same source.

    Args:
        samples: samples of any split.
        share: share of the validation samples of each class.

    Returns:
        All samples in the same order.
    """
    seen = Counter[str]()
    result = list[R]()
    for sample in samples:
        if sample.split == "val":
            position = seen[sample.label]
            seen[sample.label] += 1
            if math.floor((position + 1) * share) > math.floor(position * share):
                sample = replace(sample, split="test")
        result.append(sample)
    return result


def subsample_long_tail(
    samples: Sequence[L], classes: Sequence[str], ratio: float, seed: int
) -> list[L]:
    """Reduce the samples of each class to the counts of `long_tail_counts`.

    Args:
        samples: samples with a label.
        classes: class names; classes of equal count are ranked in this order.
        ratio: size of the largest class over that of the smallest.
        seed: seed of the random choice.

    Returns:
        The selected samples, in their original order.
    """
    if not samples:
        return []
    labels = [sample.label for sample in samples]
    label_counts = Counter(labels)
    available = {label: label_counts[label] for label in classes if label_counts[label]}
    return [
        samples[index]
        for index in sample_per_class(labels, long_tail_counts(available, ratio), seed)
    ]


G = TypeVar("G", bound=Hashable)
Shares = NDArray[np.float64]


def split_groups(
    labels: Sequence[str], groups: Sequence[G], shares: Mapping[str, float], seed: int
) -> dict[G, str]:
    """Assign whole groups to splits, so that each class comes near its requested share in every split.

    The cost of an assignment is the sum over classes and splits of the squared
    difference between actual and requested share. First, every class that occurs in
    enough groups gets one group in each split, rare classes first, by the assignment of
    least cost. Then the remaining groups are assigned one by one, the largest first,
    each to the split of least cost. Ties are broken at random. No split stays empty if
    there are enough groups.

    Args:
        labels: class of each sample (N,).
        groups: group of each sample (N,).
        shares: requested share of each split; a split with share 0 gets no group.
        seed: seed of the random order.

    Returns:
        The split of each group.
    """
    from scipy.optimize import linear_sum_assignment

    splits = [split for split, share in shares.items() if share > 0]
    row = {group: index for index, group in enumerate(dict.fromkeys(groups))}
    column = {label: index for index, label in enumerate(sorted(set(labels)))}
    counts = np.zeros((len(row), len(column)))
    np.add.at(
        counts,
        ([row[group] for group in groups], [column[label] for label in labels]),
        1,
    )
    random_order = np.random.default_rng(seed).permutation(len(row))
    rank = random_order[np.argsort(-counts[random_order].sum(axis=1), kind="stable")]
    names = list(row)
    contents = counts[rank] / counts.sum(
        axis=0
    )  # groups, the largest first: shares (G, C)
    errors = np.tile(
        [[-float(shares[split])] for split in splits], contents.shape[1]
    )  # (S, C): actual - requested
    assigned = np.full(len(rank), -1)
    # a last class that contains every group keeps a split from staying empty. Rare
    # classes come first, and classes in
    # fewer groups than splits after all others, because they cannot be in every split
    present = np.column_stack([contents > 0, np.ones(len(contents), bool)])
    occurrences = present.sum(axis=0)
    for class_index in np.lexsort([occurrences, occurrences < len(splits)]):
        members = np.flatnonzero(present[:, class_index])
        open_splits = np.setdiff1d(np.arange(len(splits)), assigned[members])
        candidates = members[assigned[members] < 0]
        rows, columns = linear_sum_assignment(
            _added_cost(contents[candidates], errors[open_splits])
        )
        assigned[candidates[rows]] = open_splits[columns]
        errors[open_splits[columns]] += contents[candidates[rows]]
    for group in np.flatnonzero(assigned < 0):
        assigned[group] = split = _added_cost(contents[[group]], errors).argmin()
        errors[split] += contents[group]
    return {
        names[index]: splits[split] for index, split in zip(rank, assigned, strict=True)
    }


def _added_cost(contents: Shares, errors: Shares) -> Shares:
    """Return what groups (G, C) add to the squared errors of splits (S, C): |e + c|^2 - |e|^2 as (G, S)."""
    return np.asarray(
        (contents**2).sum(axis=1, keepdims=True) + 2 * contents @ errors.T
    )


def read_gray_chip(path: Path) -> Pixels:
    """Read an image as a single band; some copies repeat it as R, G and B, or add a constant band of opacity.

    Returns:
        Pixels (H, W, 1).

    Raises:
        DataError: the image cannot be read, or the bands differ.
    """
    try:
        return take_gray_band(read_chip(path))
    except ValueError as error:
        raise DataError(str(error), path) from error


def fusar_columns(chip: FUSARChip, source: str, sensor: str) -> dict[str, object]:
    """Return the columns of the manifest that describe a chip of FUSAR-Ship; `source` is the name of the data set."""
    image = {
        "polarisation": chip.polarization,
        "incidence_deg": chip.incidence_deg,
        "spacing_m": chip.spacing_m,
    }
    return {"source": source, "sensor": sensor, **image, "mmsi": chip.mmsi}


def crop_srsdd_ship(ship: SRSDDShip) -> Pixels:
    """Crop the square chip around a ship; outside the image, the image is mirrored at its border.

    The last image is cached, so it is decoded once for consecutive ships of one image.

    Returns:
        The chip (S, S, 1).

    Raises:
        DataError: the image cannot be read, or the ship is outside it.
    """
    image = _read_gray_cached(ship.image)
    try:
        return ship.crop(image)
    except ValueError as error:
        raise DataError(str(error)) from error  # the caller adds the row


_read_gray_cached = LastImageCache(read_gray_chip)


@contextmanager
def translate_dataset_errors(title: str, path: Path, hint: str) -> Iterator[None]:
    """Translate the errors of a data set class within the block.

    Args:
        title: what the folder `path` should contain.
        path: folder of the data set.
        hint: how to give the data set.

    Raises:
        RequestError: the data set is not in the folder.
        DataError: a file of the data set cannot be read or used.
    """
    from torchgeo.datasets.errors import DatasetNotFoundError

    try:
        yield
    except DatasetNotFoundError as error:
        if isinstance(error.__cause__, RequestError):  # it says more
            raise error.__cause__ from None
        hint = "; ".join([hint, *getattr(error, "__notes__", [])])
        raise RequestError(
            f"the folder does not contain {title}", path, hint
        ) from error
    except OSError as error:
        raise DataError(
            f"{title} cannot be read: {error.strerror or error}",
            error.filename or path,
            "change its permissions, or copy it again",
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"{title} is not UTF-8 text", path, "save it as UTF-8"
        ) from error
    except (ValueError, RuntimeError) as error:
        raise DataError(str(error), path, hint) from error
