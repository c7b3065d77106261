"""Simulate the chips of the quick start and train its recipe."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from rsft.plugins.demo.prepare import prepare_demo
from rsft.recipe.library import find_recipe
from rsft.recipe.load import load_recipe
from rsft.training.finetune import finetune
from tools.gpu_check.rows import Figure
from tools.gpu_check.sizes import Sizes


def write_store(folder: Path, sizes: Sizes) -> Path:
    """Simulate the chips, unless another section has done so.

    Args:
        folder: folder of the work.
        sizes: number of chips.

    Returns:
        The chip store.
    """
    root = folder / "demo"
    if root.exists():
        return root
    return prepare_demo(root, counts=sizes.counts, scenes=sizes.scenes).root


def train_quickstart(
    store: Path, runs: Path, device: str, overrides: Sequence[str]
) -> list[Figure]:
    """Train recipes/quickstart.yaml.

    Args:
        store: the chip store.
        runs: folder of the run.
        device: "cpu", "cuda" or "mps".
        overrides: keys of the recipe.

    Returns:
        Accuracy on the validation split after the last epoch, images per second of that
        epoch, seconds of the run.
    """
    recipe = load_recipe(
        find_recipe("quickstart"),
        [*overrides, f"data.root={store}", f"train.device={device}"],
    )
    start = time.perf_counter()
    run = finetune(recipe, runs)
    seconds = time.perf_counter() - start
    last = pd.read_csv(run.folder / "metrics.csv").iloc[-1]
    figures = [
        Figure(100 * float(last[f"val_{name}"]), "%", f"{name} accuracy")
        for name in ("macro", "head", "tail")
    ]
    rate = Figure(float(last["images_per_s"]), "images/s", "last epoch")
    return [*figures, rate, Figure(seconds, "s", "whole run")]
