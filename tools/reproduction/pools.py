"""Train a recipe with and without a pool, and compare pseudo-labels with the true labels.

    rsft prepare folder MSTAR --root data/mstar_lt --imbalance 50 --test 0.5
    python -m tools.reproduction.make_pool MSTAR/train data/mstar_lt data/mstar_pool
    --per-label 4
    OMP_NUM_THREADS=1 python -m tools.reproduction.pools MSTAR/train data/mstar_pool
    recipes/mstar_lt_metalora.yaml meta=null --seeds 0-4 --out OUT

MSTAR/train has the true labels of the pool, as folders. OUT/results has one file for
each run; the same command continues a stopped study. The accuracy is that of all
held-out chips. A pseudo-label is what the bundle that learned without the pool would
give a chip of it: the most likely class, if its probability is at least 0.8.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import t

from rsft.data.chips.store import ChipStore
from rsft.data.loading.pool import open_pool
from rsft.metrics.accuracy import summarize_accuracy
from rsft.models.bundle.bundle import Bundle
from rsft.models.uncertainty.temperature import log_softmax
from rsft.recipe.load import load_recipe
from rsft.recipe.schema import SemiSection
from rsft.training.classify import classify_chips
from rsft.training.finetune import train_single_run
from rsft.types import Floats, JsonObject
from rsft.utils.atomic_files import sha256, write_text
from tools.errors import explained_errors
from tools.reproduction.quality_study import parse_seeds

MEASURES = ("macro", "head", "medium", "tail")
THRESHOLD = SemiSection().threshold


def main(arguments: Sequence[str] | None = None) -> None:
    """Train the missing runs, and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path, help="folders with the labels of the pool")
    parser.add_argument("pool", help="chips without labels")
    parser.add_argument("recipe", type=Path)
    parser.add_argument("keys", nargs="*", help="key=value of the recipe")
    parser.add_argument(
        "--pool-keys",
        nargs="*",
        default=[],
        help="key=value of the runs with the pool, such as semi.align=uniform",
    )
    parser.add_argument("--seeds", type=parse_seeds, default="0-4")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_intermixed_args(arguments)
    pool_keys = [f"data.unlabeled={options.pool}", *options.pool_keys]
    truth = {
        sha256(path): path.parent.name
        for path in options.source.rglob("*.*")
        if path.is_file()
    }
    rows = []
    for seed in options.seeds:
        keys = [*options.keys, f"seed={seed}"]
        pair = [
            run_once(options.recipe, [*keys, *extra], options.out, truth, options.pool)
            for extra in ([], pool_keys)
        ]
        rows.append(pair)
        print(json.dumps(pair[0]["pseudo_labels"], indent=1))
    print(format_table(rows))


def run_once(
    recipe_file: Path,
    keys: Sequence[str],
    out: Path,
    truth: Mapping[str, str],
    pool: str,
) -> JsonObject:
    """Return the result of a run, which is trained if it has no file.

    Args:
        recipe_file: the recipe.
        keys: its overrides.
        out: folder of runs and results.
        truth: SHA-256 of a file of the pool -> its class.
        pool: the chips without labels.
    """
    name = "-".join([recipe_file.stem, *keys]).replace("/", "_")
    result = out / "results" / f"{name}.json"
    if result.exists():
        content: JsonObject = json.loads(result.read_text())
        return content
    recipe = load_recipe(recipe_file, keys)
    run = train_single_run(recipe, out / "runs")
    bundle = Bundle.load(run.bundle_dir)
    store = ChipStore.open(Path(recipe.data.root))
    content = measure_accuracy(bundle, store)
    content["keys"] = list(keys)
    if recipe.data.unlabeled is None:
        content["pseudo_labels"] = check_labels(bundle, store, truth, pool)
    result.parent.mkdir(parents=True, exist_ok=True)
    write_text(result, json.dumps(content, indent=1))
    return content


def measure_accuracy(bundle: Bundle, store: ChipStore) -> JsonObject:
    """Return the accuracies in % on all chips that are held out."""
    table = store.table[store.table["split"] != "train"]
    outputs = classify_chips(bundle, store.root, table, task="confidence")
    labels = np.array([store.classes.index(name) for name in table["class"]])
    summary = summarize_accuracy(
        outputs.logits.argmax(1), labels, len(store.classes), store.group_indices
    )
    intervals = {name: getattr(summary, name) for name in MEASURES}
    return {name: 100 * x.value for name, x in intervals.items() if x is not None}


def check_labels(
    bundle: Bundle, store: ChipStore, truth: Mapping[str, str], pool: str
) -> list[JsonObject]:
    """Return one row per class: how many pseudo-labels it has, and how many are right.

    Args:
        bundle: gives the pseudo-labels.
        store: the labeled chips.
        truth: SHA-256 of a file of the pool -> its class.
        pool: the chips without labels.
    """
    chips = open_pool(pool, store, bundle.contract).chips
    outputs = classify_chips(bundle, chips.root, chips.table, task="confidence")
    even = np.exp(log_softmax(outputs.logits))
    true = np.array([truth.get(digest, "") for digest in chips.table["sha256"]])
    rows = []
    counts = store.class_counts("train")
    aligned = {
        "uniform": even / even.mean(0),
        "pool": even * estimate_shares(even),
        "none": even,
    }
    for index, name in enumerate(store.classes):
        is_class = true == name
        row: JsonObject = {"class": name, "labels": int(counts[index])}
        row["pool"] = int(is_class.sum())
        for align, probabilities in aligned.items():
            shares = probabilities / probabilities.sum(1, keepdims=True)
            is_given = (shares.argmax(1) == index) & (shares.max(1) >= THRESHOLD)
            row[align] = f"{(is_given & is_class).sum()} of {is_given.sum()} right"
        rows.append(row)
    return rows


def estimate_shares(probabilities: Floats, steps: int = 100) -> Floats:
    """Return the shares (C,) of the classes of chips, by expectation maximization.

    Args:
        probabilities: (N, C) of classes that are equally frequent.
        steps: number of steps.
    """
    shares = np.full(probabilities.shape[1], 1 / probabilities.shape[1])
    for _ in range(steps):
        posterior = probabilities * shares
        shares = (posterior / posterior.sum(1, keepdims=True)).mean(0)
    return shares


def format_table(pairs: Sequence[Sequence[Mapping[str, Any]]]) -> str:
    """Return the accuracies without and with the pool, and their paired difference."""
    rows = []
    for name in MEASURES:
        values = np.array([[x.get(name, math.nan) for x in pair] for pair in pairs])
        gains = values[:, 1] - values[:, 0]
        half = math.nan
        if len(gains) > 1:
            spread = gains.std(ddof=1) / math.sqrt(len(gains))
            half = float(t.ppf(0.975, len(gains) - 1) * spread)
        rows.append(
            {
                "measure": name,
                "without": values[:, 0].mean(),
                "with": values[:, 1].mean(),
                "difference": gains.mean(),
                "±": half,
                "worst": gains.min(),
            }
        )
    return pd.DataFrame(rows).to_string(index=False, float_format="{:.1f}".format)


if __name__ == "__main__":
    with explained_errors():
        main()
