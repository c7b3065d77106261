"""Measure how many foreign chips the distances of a calibrator find: pairs of MSTAR classes are left out in turn.

    OMP_NUM_THREADS=1 python -m tools.reproduction.foreign_chips STORE --far SHIPS --out
    OUT --report TABLE.md

STORE is a chip store of MSTAR with the splits train and val, as `rsft prepare folder`
builds it; SHIPS is a store of other chips of the same bands and unit, such as `rsft
prepare opensarship --product uint8 --bands VV`. For each pair of `PAIRS`, a classifier
is trained on the training chips of the other classes. The limit of a score is exceeded
by 5 % of the validation chips of these classes. The table has the share of the chips of
the pair (near), and of SHIPS (far), above the limit. The encoders are the small network
of recipes/mstar_lt_small.yaml, trained for ten epochs (about a minute for each pair), and
a linear probe on the encoder in rsft. The same command continues a stopped study.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import roc_auc_score

from rsft.data.chips.manifest import MANIFEST
from rsft.data.chips.store import DATASET, REJECTED, ChipStore
from rsft.data.loading.batches import ChipImages
from rsft.models.bundle.bundle import Bundle
from rsft.models.outputs import ClassifierOutputs
from rsft.models.uncertainty import distances
from rsft.recipe.library import find_recipe
from rsft.recipe.load import load_recipe
from rsft.training.calibration import MAX_CHIPS_PER_CLASS, sample_evenly_per_class
from rsft.training.classify import classify_chips
from rsft.training.finetune import train_single_run
from rsft.training.init.frozen_features import compute_features
from rsft.training.init.head_init import fit_linear_probe
from rsft.training.setup import TrainingSetup, set_up
from rsft.types import Floats, Indices, Reals
from rsft.utils.atomic_files import atomic_file, write_text
from tools.errors import explained_errors

PAIRS = (
    *((0, 8), (3, 7), (5, 2), (1, 6), (4, 9)),
    *((0, 1), (2, 3), (4, 5), (6, 7), (8, 9)),
)
"""Numbers of the classes that are left out, in turn; each class twice."""

SMALL_NETWORK = "small network"
PROBE = "ViT in rsft, linear probe"
FALSE_ALARMS = 0.05
RECIPES = {
    SMALL_NETWORK: ("mstar_lt_small", ("train.epochs=10", "evaluate.every=100")),
    PROBE: ("linear_probe", ("data.crop=64", "evaluate.tta=none")),
}


class Chips(NamedTuple):
    """Outputs of a classifier on the chips of a pair.

    Attributes:
        train: features (N, D) of the training chips.
        train_labels: their classes (N,).
        known: validation chips of the classes of the training.
        near: chips of the pair of classes that was left out.
        far: chips of the other store.
    """

    train: Reals
    train_labels: Indices
    known: ClassifierOutputs
    near: ClassifierOutputs
    far: ClassifierOutputs


def main(arguments: Sequence[str] | None = None) -> None:
    """Do the missing runs, and write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("store", type=Path)
    parser.add_argument("--far", type=Path, required=True, help="store of other chips")
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--report", type=Path, help="table to write")
    parser.add_argument("--pairs", type=int, default=len(PAIRS), help="first pairs")
    options = parser.parse_args(arguments)
    store = ChipStore.open(options.store)
    far = ChipStore.open(options.far)
    rows: list[dict[str, object]] = []
    for pair in PAIRS[: options.pairs]:
        for encoder in RECIPES:
            chips = _load_outputs(store, far, pair, encoder, options.out)
            for score, result in measure(chips).items():
                rows.append({"encoder": encoder, "score": score, **result})
    write_text(options.out / "results.json", json.dumps(rows, indent=1))
    table = format_table(rows)
    print(table)
    if options.report is not None:
        write_text(options.report, table)


def measure(chips: Chips) -> dict[str, dict[str, float]]:
    """Return for each score the shares of chips above its limit, and its AUC.

    Returns:
        "near" and "far", shares at `FALSE_ALARMS`; "auc" of the near chips.
    """
    results = {}
    outputs = (chips.known, chips.near, chips.far)
    for name, values in _scores(chips, outputs).items():
        known, near, far = values
        limit = np.quantile(known, 1 - FALSE_ALARMS)
        is_near = np.repeat([False, True], [len(known), len(near)])
        results[name] = {
            "near": float((near > limit).mean()),
            "far": float((far > limit).mean()),
            "auc": float(roc_auc_score(is_near, np.concatenate([known, near]))),
        }
    return results


def _scores(
    chips: Chips, outputs: Sequence[ClassifierOutputs]
) -> dict[str, list[Floats]]:
    """Return the scores of each of several outputs; larger is more foreign."""
    classes = int(chips.train_labels.max()) + 1
    unit_train = _unit(chips.train)
    raw = distances.fit_distance(chips.train, chips.train_labels, classes)
    unit = distances.fit_distance(unit_train, chips.train_labels, classes)
    scores: dict[str, list[Floats]] = {}
    for logits, features in outputs:
        others = _unit(features)
        values = {
            "nearest chip": distances.mahalanobis_distance(
                features, chips.train, raw[1]
            ),
            "nearest class mean": distances.mahalanobis_distance(features, *raw),
            "nearest class mean, unit length": distances.mahalanobis_distance(
                others, *unit
            ),
            "nearest chip, cosine": 1 - (others @ unit_train.T).max(axis=1),
            "energy": -np.log(np.exp(logits.astype(float)).sum(axis=1)),
        }
        for name, array in values.items():
            scores.setdefault(name, []).append(array)
    return scores


def _unit(features: Reals) -> Floats:
    exact = features.astype(np.float64)
    return np.asarray(exact / np.linalg.norm(exact, axis=1, keepdims=True))


def _load_outputs(
    store: ChipStore, far: ChipStore, pair: tuple[int, int], encoder: str, out: Path
) -> Chips:
    """Return the outputs of a pair, which are computed once."""
    names = [store.classes[number] for number in pair]
    folder = f"{encoder.split()[0].lower()}-{'-'.join(names)}"
    path = out / "outputs" / f"{folder}.npz"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        known = _leave_out(store, names, out / "stores" / "-".join(names))
        near = store.split("val")
        near = near[near["class"].isin(names)]
        compute = _train if encoder == SMALL_NETWORK else _probe
        chips = compute(known, store, near, far, out / "runs" / folder)
        arrays: dict[str, Any] = {
            "train": chips.train,
            "train_labels": chips.train_labels,
        }
        for name in ("known", "near", "far"):
            arrays[f"{name}_logits"], arrays[f"{name}_features"] = getattr(chips, name)
        with atomic_file(path) as temporary, temporary.open("wb") as file:
            np.savez(file, **arrays)
    stored = np.load(path)
    outputs = [
        ClassifierOutputs(stored[f"{name}_logits"], stored[f"{name}_features"])
        for name in ("known", "near", "far")
    ]
    return Chips(stored["train"], stored["train_labels"], *outputs)


def _leave_out(store: ChipStore, names: Sequence[str], root: Path) -> ChipStore:
    """Write a store with the same chips, without those of some classes."""
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    shutil.copy(store.root / REJECTED, root / REJECTED)
    (root / "chips").symlink_to((store.root / "chips").resolve())
    description = json.loads((store.root / DATASET).read_text("utf-8"))
    description["classes"] = [x for x in store.classes if x not in names]
    description["groups"] = {
        group: [x for x in members if x not in names]
        for group, members in store.groups.items()
    }
    write_text(root / DATASET, json.dumps(description))
    table = store.table[~store.table["class"].isin(names)]
    table.reset_index(drop=True).to_parquet(root / MANIFEST)
    return ChipStore.open(root)


def _train(
    known: ChipStore, store: ChipStore, near: pd.DataFrame, far: ChipStore, runs: Path
) -> Chips:
    """Train the small network, and classify all chips with it."""
    name, overrides = RECIPES[SMALL_NETWORK]
    recipe = load_recipe(
        find_recipe(name), [f"data.root={known.root}", *overrides, "name=run"]
    )
    if not list(runs.glob("run/*/bundle")):
        stopped = next(runs.glob("run/*/checkpoints"), None)
        train_single_run(recipe, runs, resume=stopped and stopped.parent)
    bundle = Bundle.load(next(runs.glob("run/*/bundle")))
    train = known.split("train")
    labels = np.array([known.classes.index(x) for x in train["class"]])
    chosen = sample_evenly_per_class(labels, MAX_CHIPS_PER_CLASS)
    features = classify_chips(bundle, known.root, train, "cpu", indices=chosen).features
    return Chips(
        features,
        labels[chosen],
        classify_chips(bundle, known.root, known.split("val"), "cpu"),
        classify_chips(bundle, store.root, near, "cpu"),
        classify_chips(bundle, far.root, far.table, "cpu"),
    )


def _probe(
    known: ChipStore, store: ChipStore, near: pd.DataFrame, far: ChipStore, runs: Path
) -> Chips:
    """Fit a linear probe on the encoder, and classify all chips with it.

    The features of all chips are computed once, for all pairs.
    """
    name, overrides = RECIPES[PROBE]
    recipe = load_recipe(find_recipe(name), [f"data.root={store.root}", *overrides])
    path = runs.parent / "features.npz"
    if not path.is_file():
        runs.parent.mkdir(parents=True, exist_ok=True)
        setup = set_up(recipe)
        others = ChipImages(far.root, far.table, (), setup.contract)
        parts = {"train": setup.train, "val": setup.val, "far": others}
        arrays: dict[str, Any] = {
            key: _features(setup, chips) for key, chips in parts.items()
        }
        with atomic_file(path) as temporary, temporary.open("wb") as file:
            np.savez(file, **arrays)
    features = dict(np.load(path))
    train = store.split("train")["class"]
    is_known = train.isin(known.classes).to_numpy()
    labels = np.array([known.classes.index(x) for x in train[is_known]])
    rows = torch.from_numpy(features["train"][is_known])
    seed = recipe.seed
    weight, _ = fit_linear_probe(rows, torch.from_numpy(labels), seed, cosine=True)
    units = weight / weight.norm(dim=1, keepdim=True)
    is_near = store.split("val").index.isin(near.index)
    outputs = []
    for chips in (features["val"][~is_near], features["val"][is_near], features["far"]):
        logits = recipe.head.logit_scale * _unit(chips) @ units.numpy().T
        outputs.append(ClassifierOutputs(logits, chips))
    chosen = sample_evenly_per_class(labels, MAX_CHIPS_PER_CLASS)
    return Chips(rows.numpy()[chosen], labels[chosen], *outputs)


def _features(setup: TrainingSetup, chips: ChipImages) -> Floats:
    indices = np.arange(len(chips))
    rows: Floats = compute_features(setup.classifier, chips, indices, 128).numpy()
    return rows


def format_table(rows: Sequence[dict[str, object]]) -> str:
    """Return the results as Markdown: means over the pairs, in percent."""
    lines = [
        (
            "| encoder | score | pairs | near chips found | of each pair | AUC of near"
            " chips | far chips found |"
        ),
        "|---|---|---:|---:|---|---:|---:|",
    ]
    frame = pd.DataFrame(rows)
    for (encoder, score), group in frame.groupby(["encoder", "score"], sort=False):
        near = 100 * group["near"]
        cells = [str(encoder), str(score), str(len(group)), f"{near.mean():.1f} %"]
        cells += [" ".join(f"{value:.0f}" for value in near)]
        cells += [f"{100 * group['auc'].mean():.1f}"]
        cells += [f"{100 * group['far'].mean():.1f} %"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    with explained_errors():
        main()
