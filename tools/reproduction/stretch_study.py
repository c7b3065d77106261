"""Compare stretches of pixel values: accuracy on held-out scenes or on the validation split, over several seeds.

    OMP_NUM_THREADS=1 python -m tools.reproduction.stretch_study STORE data.crop=64 train.epochs=12 meta=null \
        --by-scene --out OUT --stretch percentile auto

The recipe is the quick start with the given overrides; every run keeps its last epoch. With --by-scene, the chips of
the largest scene, of the second one and of all others are held out in turn; a tenth of the others is the validation
split. Otherwise the validation split of the store is measured. The same command continues a stopped study.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student_t

from rsft.data.chips.manifest import MANIFEST
from rsft.data.chips.record import stratified_split
from rsft.data.chips.store import ChipStore
from rsft.data.loading.batches import ChipImages
from rsft.models.batch_outputs import collect_outputs
from rsft.models.bundle.bundle import Bundle
from rsft.models.loading import load_classifier
from rsft.recipe.library import find_recipe
from rsft.recipe.load import load_recipe
from rsft.training.finetune import train_single_run
from rsft.utils.atomic_files import write_text
from tools.errors import explained_errors
from tools.reproduction.heldout_scenes import split_store


def main(arguments: Sequence[str] | None = None) -> None:
    """Do the missing runs, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("store", type=Path)
    parser.add_argument(
        "overrides", nargs="*", help="KEY=VALUE overrides of the recipe"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    parser.add_argument(
        "--stretch",
        nargs="+",
        default=["percentile", "auto"],
        help="values; the first one is the base",
    )
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds")
    parser.add_argument("--by-scene", action="store_true", help="hold out scenes")
    options = parser.parse_args(arguments)
    store = ChipStore.open(options.store)
    accuracies: dict[str, list[float]] = {stretch: [] for stretch in options.stretch}
    for seed in range(options.seeds):
        for stretch in options.stretch:
            result = options.out / f"{stretch}-{seed}.json"
            if not result.exists():
                if options.by_scene:
                    folds = hold_out(store, seed, options.out / "fold")
                else:
                    folds = [(store, "val")]
                overrides = [
                    *options.overrides,
                    f"data.stretch={stretch}",
                    f"seed={seed}",
                ]
                counts = sum(
                    _count(fold, split, overrides, options.out / "runs")
                    for fold, split in folds
                )
                write_text(result, json.dumps(np.asarray(counts).tolist()))
            correct, total = np.array(json.loads(result.read_text()))
            accuracies[stretch].append(float(100 * (correct / total).mean()))
    print(format_table(accuracies))


def hold_out(store: ChipStore, seed: int, root: Path) -> list[tuple[ChipStore, str]]:
    """Write three chip stores whose test splits are the largest scene, the second one, and all others."""
    scenes = store.table["group_key"].value_counts().index.tolist()
    folds = []
    for number, scene in enumerate((scenes[:1], scenes[1:2], scenes[2:])):
        folder = split_store(store, scene[0], "random", seed, root / str(number)).root
        table = store.table.assign(split="test")
        rest = np.flatnonzero(~table["group_key"].isin(scene))
        validation = set(
            stratified_split(table["class"].iloc[rest].tolist(), 0.1, seed)[1]
        )
        splits = [
            "val" if index in validation else "train" for index in range(len(rest))
        ]
        table.loc[table.index[rest], "split"] = splits
        table.to_parquet(folder / MANIFEST)
        folds.append((ChipStore.open(folder), "test"))
    return folds


def _count(
    store: ChipStore, split: str, overrides: Sequence[str], runs: Path
) -> NDArray[np.int64]:
    """Train, and return the numbers of correct and of all chips of a split by class (2, C)."""
    shutil.rmtree(runs, ignore_errors=True)
    settings = [*overrides, f"data.root={store.root}", "evaluate.every=100", "name=run"]
    bundle = Bundle.load(
        train_single_run(
            load_recipe(find_recipe("quickstart"), settings), runs
        ).bundle_dir
    )
    chips = ChipImages(store.root, store.split(split), store.classes, bundle.contract)
    logits = collect_outputs(load_classifier(bundle, "cpu"), chips.batches(64)).logits
    correct = chips.labels[logits.argmax(1) == chips.labels]
    return np.stack(
        [
            np.bincount(labels, minlength=len(store.classes))
            for labels in (correct, chips.labels)
        ]
    )


def format_table(accuracies: Mapping[str, Sequence[float]]) -> str:
    """Return mean macro accuracy and the difference to the first stretch, with 95 % intervals over the seeds.

    Args:
        accuracies: macro accuracy in % of each seed, by stretch.
    """
    base = np.array(next(iter(accuracies.values())))
    lines = ["| stretch | macro, % | difference |", "|---|---:|---:|"]
    for stretch, values in accuracies.items():
        differences = np.array(values) - base
        half = (
            student_t.ppf(0.975, len(base) - 1)
            * differences.std(ddof=1)
            / np.sqrt(len(base))
        )
        if differences.any():
            difference = f"{differences.mean():+.1f} ± {half:.1f}"
        else:
            difference = ""
        lines.append(f"| {stretch} | {np.mean(values):.1f} | {difference} |")
    return "\n".join(lines)


if __name__ == "__main__":
    with explained_errors():
        main()
