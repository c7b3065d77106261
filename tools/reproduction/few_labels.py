"""Make chip stores with few labels per class, of which a study takes one per seed.

    rsft prepare folder MSTAR --root data/mstar
    python -m tools.reproduction.few_labels data/mstar data/few --labels 5,10,20
    --seeds 0-4

A store data/few/mstar_5_0 has five training chips of each class, drawn by the seed 0, and
all held-out chips. Its chips are those of the source, by a link.
"""

import argparse
import shutil
from pathlib import Path

import numpy as np
import pandas as pd

from rsft.data.chips.manifest import MANIFEST
from rsft.data.chips.store import DATASET, REJECTED, ChipStore
from rsft.utils.atomic_files import atomic_folder
from tools.errors import explained_errors
from tools.reproduction.quality_study import parse_seeds


def draw_labels(table: pd.DataFrame, labels: int, seed: int) -> pd.DataFrame:
    """Return the rows of a manifest with few training chips per class.

    Args:
        table: the manifest.
        labels: training chips of each class; of a class with fewer, all are taken.
        seed: decides which chips are drawn.
    """
    rng = np.random.default_rng((seed, labels))
    is_drawn = (table["split"] != "train").to_numpy(copy=True)
    for name in sorted(table["class"].unique()):
        is_member = (table["split"] == "train") & (table["class"] == name)
        members = np.flatnonzero(is_member)
        is_drawn[rng.permutation(members)[:labels]] = True
    return table[is_drawn]


def write_store(source: ChipStore, folder: Path, labels: int, seed: int) -> None:
    """Write a store with few training chips per class, which links to the chips.

    Args:
        source: the store with all training chips.
        folder: folder of the new store.
        labels: training chips of each class.
        seed: decides which chips are drawn.
    """
    with atomic_folder(folder, replace=False) as new:
        for name in (DATASET, REJECTED):
            shutil.copy(source.root / name, new / name)
        table = draw_labels(source.table, labels, seed)
        table.to_parquet(new / MANIFEST, index=False)
        for entry in source.root.resolve().iterdir():
            if entry.is_dir() and entry.name != "cache":
                (new / entry.name).symlink_to(entry)


def main() -> None:
    """Write one store for each number of labels and each seed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--labels", type=parse_seeds, default="1,2,5,10,20,50")
    parser.add_argument("--seeds", type=parse_seeds, default="0-4")
    options = parser.parse_args()
    store = ChipStore.open(options.source)
    for labels in options.labels:
        for seed in options.seeds:
            folder = options.folder / f"{options.source.name}_{labels}_{seed}"
            if not folder.exists():
                write_store(store, folder, labels, seed)
                print(folder)


if __name__ == "__main__":
    with explained_errors():
        main()
