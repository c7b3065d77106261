"""Write a run folder like `rsft finetune` and `rsft evaluate`, with invented but
plausible numbers."""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rsft.metrics.accuracy import confusion_matrix, summarize_accuracy
from rsft.metrics.coverage import coverage_by_group
from rsft.recipe.load import dump_recipe
from rsft.recipe.schema import DataSection, MetaSection, Recipe, TrainSection

SHIPS = ["cargo", "fishing", "tanker", "dredger"]
POSITIONS = ("q", "k", "v", "out", "mlp1", "mlp2")
Floats = NDArray[np.float64]
BASELINES = {"logit-adjusted linear probe": 0.8, "plain k-NN": 0.65}
"""Baselines with their recall of the head."""


def write_fake_run(
    runs: Path,
    classes: list[str],
    *,
    epochs: int = 12,
    blocks: int = 8,
    modulated: bool = True,
    baselines: bool = True,
) -> Path:
    """Write runs/<recipe>/001. The training counts of the classes fall, so that head,
    medium and tail have classes."""
    original = _write_once(tuple(classes), epochs, blocks, modulated, baselines)
    return Path(shutil.copytree(original, runs / original.parent.name / original.name))


@cache
def _temporary_folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="fake-runs-")


@cache
def _write_once(
    classes: tuple[str, ...], epochs: int, blocks: int, modulated: bool, baselines: bool
) -> Path:
    """Write a run that tests get copies of."""
    rng = np.random.default_rng(len(classes))
    recipe = Recipe(
        name="fusrs_lt_metalora",
        data=DataSection(root="data/fusrs_lt", size=64, augment="sar"),
        meta=MetaSection() if modulated else None,
        train=TrainSection(epochs=epochs),
    )
    folder = Path(tempfile.mkdtemp(dir=_temporary_folder().name), recipe.name, "001")
    (folder / "bundle").mkdir(parents=True)
    (folder / "bundle" / "weights.safetensors").write_bytes(bytes(310_000))
    (folder / "recipe.yaml").write_text(dump_recipe(recipe), encoding="utf-8")
    (folder / "run.json").write_text(json.dumps(_metadata(recipe)))
    _epochs(rng, epochs, modulated).to_csv(folder / "metrics.csv", index=False)
    if modulated:
        _scales(rng, epochs, blocks).to_csv(folder / "modulator.csv", index=False)
    evaluation = folder / "evaluation"
    evaluation.mkdir()
    methods = {"MetaLoRA" if modulated else "LoRA": 0.85} | (
        BASELINES if baselines else {}
    )
    metrics, labels, probabilities = _metrics(rng, list(classes), methods)
    (evaluation / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    names = [f"chip{number:05d}" for number in range(len(labels))]
    paths = [
        f"chips/test/{label}/{name}.png"
        for label, name in zip(labels, names, strict=True)
    ]
    chips = pd.DataFrame(
        {"name": names, "path": paths, "class": np.array(classes)[labels]}
    )
    _predictions(rng, chips, list(classes), probabilities).to_parquet(
        evaluation / "predictions.parquet"
    )
    _embedding(rng, chips, labels).to_parquet(evaluation / "embedding.parquet")
    return folder


def read_metrics(run: Path) -> dict[str, Any]:
    """Return metrics.json of a run."""
    return json.loads((run / "evaluation/metrics.json").read_text())


def change_metrics(run: Path, **changes: object) -> None:
    """Replace entries of metrics.json of a run."""
    (run / "evaluation/metrics.json").write_text(
        json.dumps(read_metrics(run) | changes)
    )


def _predictions(
    rng: np.random.Generator,
    chips: pd.DataFrame,
    classes: list[str],
    probabilities: Floats,
) -> pd.DataFrame:
    table = chips.copy()
    names = np.array(classes)
    table["predicted"] = names[probabilities.argmax(1)]
    table["class_set"] = [
        names[row > min(0.1, row.max() - 1e-9)].tolist() for row in probabilities
    ]
    table["ood"] = rng.gamma(9, 0.07, len(chips))
    shares = pd.DataFrame(
        probabilities.astype(np.float32), columns=[f"p_{name}" for name in classes]
    )
    return pd.concat([table, shares], axis=1)


def _embedding(
    rng: np.random.Generator, chips: pd.DataFrame, labels: NDArray[np.int64]
) -> pd.DataFrame:
    chosen = np.linspace(0, len(chips) - 1, min(400, len(chips))).astype(int)
    table = chips.iloc[chosen].reset_index(drop=True)
    for stage, distance in {"frozen": 4, "adapted": 14}.items():
        centers = distance * rng.normal(size=(labels.max() + 1, 2))
        table[[f"{stage}_x", f"{stage}_y"]] = centers[labels[chosen]] + rng.normal(
            size=(len(chosen), 2)
        )
    return table


def _metadata(recipe: Recipe) -> dict[str, object]:
    times = {
        "started": "2026-03-02T09:14:05+00:00",
        "finished": "2026-03-02T09:17:21+00:00",
        "seconds": 196.4,
    }
    sizes = {
        "trained_parameters": 74_304,
        "modulator_parameters": 48 if recipe.meta else 0,
    }
    sizes |= {"total_parameters": 2_861_000, "train_chips": 649, "val_chips": 300}
    hashes = {"bundle_sha256": "5f" * 32, "backbone_sha256": "c0" * 32}
    return {
        **{
            "status": "done",
            "seed": recipe.seed,
            "machine": "Linux-6.1-x86_64",
            "device": "cpu",
        },
        **{**times, **sizes, **hashes},
        "versions": {
            "rsft": "0.1.0",
            "python": "3.11.2",
            "torch": "2.13.0+cpu",
            "timm": "1.0.20",
        },
        "hardware": {
            "cpu": "a processor",
            "cores": 2,
            "threads": 2,
            "memory_gb": 8.0,
            "gpus": [],
        },
        "data": {"root": "/data/fusrs_lt", "manifest_sha256": "ab" * 32},
        "git": {"commit": "1234567" * 5, "dirty": True},
    }


def _epochs(rng: np.random.Generator, epochs: int, modulated: bool) -> pd.DataFrame:
    epoch = np.arange(epochs)
    learned = 1 - np.exp(-(epoch + 1) / 4)
    noise = rng.normal(0, 0.015, (5, epochs))
    losses = {
        "train_loss": 2.2 - 1.9 * learned + noise[0],
        "val_loss": 2.25 - 1.5 * learned,
    }
    losses["meta_loss"] = 2.3 - 1.7 * learned + noise[1] if modulated else np.nan
    accuracies = {"val_micro": 0.3 + 0.55 * learned, "val_macro": 0.25 + 0.45 * learned}
    accuracies |= {
        "val_head": 0.5 + 0.42 * learned + noise[2],
        "val_medium": 0.2 + 0.5 * learned + noise[3],
    }
    costs = {
        "seconds": 14.8,
        "images_per_s": 41.0 + rng.normal(0, 1, epochs),
        "data_s": 1.6,
        "inner_s": 9.1,
    }
    costs |= {
        "outer_s": 4.1 if modulated else 0.0,
        "memory_mb": 912.0,
        "gpu_mb": np.nan,
    }
    columns = {
        "epoch": epoch,
        "step": 6 * (epoch + 1),
        "lr": 0.01,
        "val_tail": 0.4 * learned + noise[4],
    }
    return pd.DataFrame(columns | losses | accuracies | costs)


def _scales(rng: np.random.Generator, epochs: int, blocks: int) -> pd.DataFrame:
    target = 1 + 0.5 * rng.normal(size=(blocks, 6)).clip(-1.6, 1.9)
    rows = [
        (epoch, block, name, 1 + (target[block, p] - 1) * epoch / epochs)
        for epoch in range(epochs)
        for block in range(blocks)
        for p, name in enumerate(POSITIONS)
    ]
    return pd.DataFrame(rows, columns=["epoch", "block", "position", "value"])


def _metrics(
    rng: np.random.Generator, classes: list[str], methods: dict[str, float]
) -> tuple[dict[str, object], NDArray[np.int64], Floats]:
    """Return metrics.json, and the labels (N,) and probabilities (N, C) of the run."""
    n = len(classes)
    counts = np.rint(400 * 100 ** (-np.arange(n) / max(1, n - 1))).astype(int)
    members = {
        "head": counts > 100,
        "medium": (counts >= 20) & (counts <= 100),
        "tail": counts < 20,
    }
    groups = {name: np.flatnonzero(chosen).tolist() for name, chosen in members.items()}
    labels = np.repeat(np.arange(n), max(12, 1200 // n))
    probabilities = {}
    for name, share in methods.items():
        skill = share * (counts / counts.max()) ** 0.15
        rivals = rng.choice(n, len(labels), p=counts / counts.sum())
        logits = np.log(rng.dirichlet(np.ones(n), len(labels)))
        chosen = np.where(rng.random(len(labels)) < skill[labels], labels, rivals)
        logits[np.arange(len(labels)), chosen] += 6
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        probabilities[name] = odds / odds.sum(axis=1, keepdims=True)
    run_probabilities = next(iter(probabilities.values()))
    summaries = {
        name: summarize_accuracy(p, labels, n, groups)
        for name, p in probabilities.items()
    }
    metrics = {
        **{
            "data": "data/fusrs_lt",
            "split": "test",
            "count": len(labels),
            "classes": classes,
            "groups": groups,
        },
        "train_counts": counts.tolist(),
        "methods": {
            name: summary.to_dict(classes) for name, summary in summaries.items()
        },
        "confusion": confusion_matrix(labels, run_probabilities.argmax(1), n).tolist(),
        "confidence": _confidence(run_probabilities, labels, groups),
        "notes": [
            "a class of fewer than 9 validation chips is in every set of 90 %: dredger"
        ],
    }
    return metrics, labels, run_probabilities


def _confidence(
    probabilities: Floats, labels: NDArray[np.int64], groups: dict[str, list[int]]
) -> dict[str, object]:
    coverage = []
    for target in (0.8, 0.9, 0.95):
        sets = probabilities > (1 - target) / 4
        by_group = {
            name: group and asdict(group)
            for name, group in coverage_by_group(sets, labels, groups).items()
        }
        scarce = [probabilities.shape[1] - 1] if target > 0.8 else []
        coverage.append(
            {
                "target": target,
                "groups": by_group,
                "classes_without_coverage": scarce,
            }
        )
    ood = {
        "ood_false_positive_rate": 0.05,
        "ood_share": {"all": 0.061, "head": 0.05, "medium": None, "tail": 0.11},
    }
    return {
        "temperature": 1.31,
        "ece_uncalibrated": 0.09,
        "fitted_on_these_chips": False,
        "coverage": coverage,
        **ood,
    }
