"""Copy a chip store once for every way to split its scenes, to compare methods over scenes and not only over seeds.

    rsft prepare opensarship OPENSARSHIP --product cal --bands VV --val 0.4 --test 0
    --root data/opensarship python -m tools.reproduction.split_scenes data/opensarship
    data/opensarship_ --least 4

Half of the scenes are for training and the other half for validation, both with at
least `--least` chips of every class. The copies are numbered from 0; the second one of
a pair is the first one the other way around.
"""

import argparse
import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from rsft.data.chips.additions import commit_store
from rsft.data.chips.record import group_by_count
from rsft.data.chips.store import ChipStore, read_dataset
from rsft.utils.atomic_files import atomic_folder
from tools.errors import explained_errors


def halves(table: pd.DataFrame, least: int) -> Iterator[set[str]]:
    """Yield the scenes for training of every split, each followed by its complement.

    Args:
        table: chips with the columns group_key, the name of the scene, and class.
        least: chips of every class on both sides.
    """
    counts = table.groupby(["group_key", "class"]).size().unstack(fill_value=0)
    scenes = list(counts.index)
    for others in itertools.combinations(scenes[1:], len(scenes) // 2 - 1):
        first = {scenes[0], *others}
        is_first = counts.index.isin(first)
        if min(counts[is_first].sum().min(), counts[~is_first].sum().min()) >= least:
            yield first
            yield set(scenes) - first


def main(arguments: list[str] | None = None) -> None:
    """Write the copies."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "store",
        type=Path,
        help="chip store whose chips have a scene; its own splits are ignored",
    )
    parser.add_argument(
        "target", help="start of the paths of the copies; numbers are appended"
    )
    parser.add_argument(
        "--least",
        type=int,
        default=5,
        help="chips of every class on both sides (%(default)s)",
    )
    options = parser.parse_args(arguments)
    store = ChipStore.open(options.store)
    for number, scenes in enumerate(halves(store.table, options.least)):
        is_train = store.table["group_key"].isin(scenes)
        table = store.table.assign(split=is_train.map({True: "train", False: "val"}))
        counts = table[is_train]["class"].value_counts()
        groups = group_by_count({name: int(counts[name]) for name in store.classes})
        target = Path(f"{options.target}{number}")
        with atomic_folder(target, replace=False) as temporary:
            shutil.copytree(
                store.root,
                temporary,
                dirs_exist_ok=True,
                ignore=shutil.ignore_patterns("contact", "*.png"),
            )
            commit_store(
                temporary, table, read_dataset(store.root) | {"groups": groups}, {}
            )
        print(
            f"{target}: {is_train.sum():,} training chips, {(~is_train).sum():,}"
            " validation chips"
        )


if __name__ == "__main__":
    with explained_errors():
        main()
