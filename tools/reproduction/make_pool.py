"""Make a pool of chips without labels from the training chips of a data set that its long-tailed store leaves out.

    rsft prepare folder MSTAR --root data/mstar_lt --imbalance 50 --test 0.5
    python -m tools.reproduction.make_pool MSTAR/train data/mstar_lt data/mstar_pool
    --per-label 4

The labels are only used to draw the chips: their files are copied under numbers.
"""

import argparse
from pathlib import Path

import numpy as np

from rsft.data.chips.store import ChipStore
from rsft.utils.atomic_files import atomic_folder, sha256
from tools.errors import explained_errors


def draw_pool(
    source: Path,
    store: ChipStore,
    per_label: float | None,
    uniform: int | None,
    seed: int,
    others: float = 0,
) -> list[Path]:
    """Return the files of a pool, in random order.

    Args:
        source: folder with one folder for each class of the store, and for other
            classes.
        store: the data set, whose chips are left out.
        per_label: chips of a class for each labeled chip of it, as long-tailed as the
            labels; None takes `uniform`.
        uniform: chips of each class; None takes all.
        seed: decides which chips are drawn.
        others: share of chips of the classes that the store does not have, as many of
            each of them.

    Raises:
        ValueError: a class of the store has no folder, or the other classes have no
            folder or too few chips.
    """
    labeled = set(store.table["sha256"])
    counts = dict(zip(store.classes, store.class_counts("train"), strict=True))
    missing = [name for name in store.classes if not (source / name).is_dir()]
    if missing:
        raise ValueError(f"{source} has no folder {missing[0]}")
    rng = np.random.default_rng(seed)
    drawn = list[Path]()
    for name in store.classes:
        files = [
            path
            for path in sorted((source / name).iterdir())
            if sha256(path) not in labeled
        ]
        if per_label is None:
            size = len(files)
        else:
            size = round(per_label * counts[name])
        size = size if uniform is None else uniform
        drawn += [files[index] for index in rng.permutation(len(files))[:size]]
    names = sorted(
        folder.name
        for folder in source.iterdir()
        if folder.is_dir() and folder.name not in store.classes
    )
    if others and not names:
        raise ValueError(f"{source} has no folder of another class")
    size = round(len(drawn) * others / (1 - others) / max(1, len(names)))
    for files in (sorted((source / name).iterdir()) for name in names):
        if len(files) < size:
            raise ValueError(
                f"{files[0].parent} has {len(files)} chips, {size} are needed"
            )
        drawn += [files[index] for index in rng.permutation(len(files))[:size]]
    return [drawn[index] for index in rng.permutation(len(drawn))]


def main(arguments: list[str] | None = None) -> None:
    """Draw a pool, and copy its chips."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "source", type=Path, help="folder with one folder of training chips per class"
    )
    parser.add_argument("store", type=Path, help="chip store, whose chips are left out")
    parser.add_argument("target", type=Path, help="new folder")
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--per-label", type=float, help="chips of a class for each labeled chip of it"
    )
    group.add_argument("--uniform", type=int, help="chips of each class")
    parser.add_argument(
        "--others",
        type=float,
        default=0,
        help="share of chips of other classes (%(default)s)",
    )
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args(arguments)
    store = ChipStore.open(options.store)
    files = draw_pool(
        options.source,
        store,
        options.per_label,
        options.uniform,
        options.seed,
        options.others,
    )
    with atomic_folder(options.target, replace=False) as temporary:
        for number, path in enumerate(files):
            (temporary / f"{number:06d}{path.suffix.lower()}").write_bytes(
                path.read_bytes()
            )
    print(f"{options.target}: {len(files):,} chips without labels")


if __name__ == "__main__":
    with explained_errors():
        main()
