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
from tools.gpu_check.sizes import Sizes

QUICKSTART_COLUMNS = ("job", "macro, %", "head, %", "tail, %", "images/s", "s")


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
) -> tuple[str, ...]:
    """Train recipes/quickstart.yaml.

    Args:
        store: the chip store.
        runs: folder of the run.
        device: "cpu" or "cuda".
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
    accuracies = (
        f"{100 * last[f'val_{name}']:.1f}" for name in ("macro", "head", "tail")
    )
    return (*accuracies, f"{last['images_per_s']:.0f}", f"{seconds:.1f}")
