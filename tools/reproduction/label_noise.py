"""Measure how many wrong labels `rsft data suggest STORE` finds: labels of similar classes are swapped on purpose.

    OMP_NUM_THREADS=1 python -m tools.reproduction.label_noise STORE --out OUT --report
    TABLE.md

The training chips of STORE are used. A share of the labels is flipped within `PAIRS`,
the classes of MSTAR; for another store, `--flip grass=field field=grass` names the
wrong label of each class, and `--epochs 0` is given. The rows are the two classifiers
of the audit, both together (the default of the command), and the features and the
predictions of a small network that was trained on the flipped labels, which takes some
minutes for each share (`--epochs 0` leaves it out). The same command continues a
stopped study; without the folder OUT/results, it measures the networks again.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from rsft.data.chips.manifest import MANIFEST
from rsft.data.chips.store import DATASET, REJECTED, ChipStore
from rsft.data.loading.batches import ChipImages
from rsft.models.batch_outputs import collect_outputs
from rsft.models.bundle.bundle import Bundle
from rsft.models.loading import load_classifier
from rsft.models.uncertainty.temperature import log_softmax
from rsft.plugins.suggestions.label_audit import (
    ChipFeatures,
    predict_out_of_fold,
    read_chip_features,
)
from rsft.recipe.library import find_recipe
from rsft.recipe.load import load_recipe
from rsft.training.finetune import train_single_run
from rsft.types import Indices
from rsft.utils.atomic_files import write_text
from tools.errors import explained_errors

PAIRS = (
    ("BTR60", "BTR70"),
    ("T62", "T72"),
    ("BMP2", "BRDM2"),
    ("2S1", "ZSU234"),
    ("D7", "ZIL131"),
)
"""Classes whose labels are flipped: wheeled carriers, tanks, other armored carriers,
guns on tracks, and vehicles without armor."""

SHARES = (0.05, 0.1, 0.2)
PROBE = "probe on the embedded encoder"
PIXELS = "k-NN on pixels"
DEFAULT = "both (`rsft data suggest STORE`)"
OWN = "predictions of RUN itself"


def main(arguments: Sequence[str] | None = None) -> None:
    """Do the missing measurements, and write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("store", type=Path)
    parser.add_argument(
        "--out", type=Path, required=True, help="folder of runs and results"
    )
    parser.add_argument("--report", type=Path, help="table to write")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds")
    parser.add_argument(
        "--epochs",
        type=int,
        default=10,
        help="epochs of the small network, which has one seed",
    )
    other = dict(PAIRS) | {second: first for first, second in PAIRS}
    parser.add_argument(
        "--flip",
        nargs="+",
        help="CLASS=CLASS, the wrong label of each class (default: PAIRS)",
    )
    options = parser.parse_args(arguments)
    if options.flip:
        other = dict(item.split("=") for item in options.flip)
    else:
        other = other
    store = ChipStore.open(options.store)
    inputs = read_chip_features(store, device="cpu")
    rows = []
    for share in SHARES:
        for seed in range(options.seeds):
            epochs = 0 if seed else options.epochs
            result = options.out / "results" / f"{share}-{seed}-{epochs}.json"
            if not result.exists():
                result.parent.mkdir(parents=True, exist_ok=True)
                measured = _measure(
                    store, inputs, other, share, seed, epochs, options.out
                )
                write_text(
                    result,
                    json.dumps([{"share": share} | row for row in measured], indent=1),
                )
            rows += json.loads(result.read_text())
    table = format_table(rows)
    print(table)
    if options.report is not None:
        write_text(options.report, table)


def flip_labels(
    labels: Sequence[str], other: Mapping[str, str], share: float, seed: int
) -> NDArray[Any]:
    """Return labels of which a share is replaced by another class.

    Args:
        labels: (N,).
        other: the wrong label of each class.
        share: share of the labels.
        seed: seed of the choice.

    Returns:
        Labels (N,).
    """
    flipped = np.array(labels, object)
    chosen = np.random.default_rng(seed).permutation(len(flipped))[
        : round(share * len(flipped))
    ]
    flipped[chosen] = [other[label] for label in flipped[chosen]]
    return flipped


def _measure(
    store: ChipStore,
    inputs: ChipFeatures,
    other: Mapping[str, str],
    share: float,
    seed: int,
    epochs: int,
    out: Path,
) -> list[dict[str, Any]]:
    is_train = (inputs.table["split"] == "train").to_numpy()
    true = inputs.table["class"].to_numpy(object)[is_train]
    labels = flip_labels(true.tolist(), other, share, seed)
    table = inputs.table[is_train].assign(**{"class": labels})
    indices = np.array([store.classes.index(name) for name in labels])
    truth = np.array([store.classes.index(name) for name in true])

    def audit(source: ChipFeatures, names: Sequence[str]) -> list[dict[str, Any]]:
        noisy = ChipFeatures(
            table, source.features[is_train], source.pixels[is_train], []
        )
        result = predict_out_of_fold(noisy, store.classes)
        methods = zip(
            names, (result.probe, result.neighbors, result.probabilities), strict=True
        )
        weight = result.pixel_weight
        return [
            {"method": name, "weight": weight} | score(x, indices, truth)
            for name, x in methods
            if name
        ]

    rows = audit(inputs, (PROBE, PIXELS, DEFAULT))
    if epochs:
        noisy_store = _write_noisy_store(
            store, table, out / "stores" / f"{share}-{seed}"
        )
        overrides = [
            f"data.root={noisy_store.root}",
            f"train.epochs={epochs}",
            "evaluate.every=100",
            f"seed={seed}",
        ]
        recipe = load_recipe(find_recipe("mstar_lt_small"), [*overrides, "name=run"])
        runs = out / "runs" / f"{share}-{seed}-{epochs}"
        finished = sorted(runs.glob("run/*/bundle"))
        if finished:
            bundle_dir = finished[0]
        else:
            bundle_dir = train_single_run(recipe, runs).bundle_dir
        bundle = Bundle.load(bundle_dir)
        chips = ChipImages(noisy_store.root, table, store.classes, bundle.contract)
        logits = collect_outputs(
            load_classifier(bundle, "cpu"), chips.batches(256)
        ).logits
        rows.append(
            {"method": OWN} | score(np.exp(log_softmax(logits)), indices, truth)
        )
    return rows


def _write_noisy_store(store: ChipStore, train: pd.DataFrame, root: Path) -> ChipStore:
    """Write a store with the same chips, and the classes of `train` for its training chips."""
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    for file in (DATASET, REJECTED):
        shutil.copy(store.root / file, root / file)
    (root / "chips").symlink_to((store.root / "chips").resolve())
    table = store.table.copy()
    table.loc[train.index, "class"] = train["class"]
    table.to_parquet(root / MANIFEST)
    return ChipStore.open(root)


def score(
    probabilities: NDArray[np.floating[Any]], labels: Indices, truth: Indices
) -> dict[str, float]:
    """Measure how well a ranking by the margin of the label finds the wrong labels.

    Args:
        probabilities: (N, C).
        labels: given class indices (N,).
        truth: true class indices (N,).

    Returns:
        "precision" at the number of wrong labels; "recall", the share of the wrong
        labels that are contradicted, and "length", the number of contradicted labels as
        a multiple of the wrong ones; "proposal", the share of these wrong labels whose
        proposed class is the true one; and "auc".
    """
    rows = np.arange(len(labels))
    is_wrong = labels != truth
    others = probabilities.astype(float)
    others[rows, labels] = -1.0
    margins = probabilities[rows, labels] - others.max(axis=1)
    first = np.argsort(margins, kind="stable")[: is_wrong.sum()]
    hits = is_wrong & (margins < 0)
    return {
        "precision": float(is_wrong[first].mean()),
        "recall": float(hits.sum() / is_wrong.sum()),
        "length": float((margins < 0).sum() / is_wrong.sum()),
        "proposal": (
            float((others.argmax(axis=1) == truth)[hits].mean()) if hits.any() else 0.0
        ),
        "auc": float(roc_auc_score(is_wrong, -margins)),
    }


def format_table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the results as Markdown, one row per share and method: means over the seeds, ± the standard deviation."""
    lines = [
        (
            "| flipped | ranking | seeds | precision at the number flipped | AUC |"
            " recall of all contradicted | contradicted per flipped label | right class"
            " proposed |"
        ),
        "|---:|---|---:|---:|---:|---:|---:|---:|",
    ]
    frame = pd.DataFrame(rows)
    for (share, method), group in frame.groupby(["share", "method"], sort=False):
        if len(group) > 1:
            spread = f" ± {100 * group['precision'].std():.1f}"
        else:
            spread = ""
        cells = [f"{100 * float(str(share)):.0f} %", str(method), str(len(group))]
        cells += [
            f"{100 * group['precision'].mean():.1f} %{spread}",
            f"{group['auc'].mean():.3f}",
        ]
        cells += [
            f"{100 * group['recall'].mean():.1f} %",
            f"{group['length'].mean():.2f}",
        ]
        cells += [f"{100 * group['proposal'].mean():.1f} %"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    with explained_errors():
        main()
