"""Time the training steps of a recipe with its outer loop against those of plain LoRA; print a table in Markdown.

python -m tools.benchmarks.outer_loop [--recipe mstar_lt_metalora] [--root
data/mstar_lt] [--epochs 2]

All rows train in one process with one thread, and take turns step by step, so that
other load on the machine affects all of them. Times are processor time, with loading
and augmentation. The epochs are those after the warm-up of the outer loop. "Whole run"
also counts the epochs of the recipe before that, which are those of LoRA; start,
validation and evaluation, which are the same for all rows, are left out.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import torch
import typer

from rsft.recipe.library import find_recipe
from rsft.recipe.load import load_recipe
from rsft.training.assembly import make_learner
from rsft.training.fit import train_epoch
from rsft.training.setup import initialize_weights, seed_generators, set_up
from rsft.utils.memory import retain_freed_memory
from tools.errors import explained_errors

ROWS = {
    "LoRA": ("meta=null",),
    "MetaLoRA, as in the recipe": (),
    "the same, outer batch 32": ("meta.batch_size=32",),
    "the same, outer batch 32, one outer step per 3 inner steps": (
        "meta.batch_size=32",
        "meta.outer_every=3",
    ),
}


def main(
    recipe: Annotated[
        str, typer.Option(help="Name or file of a recipe with an outer loop.")
    ] = "mstar_lt_metalora",
    root: Annotated[Path, typer.Option(help="The chip store.")] = Path("data/mstar_lt"),
    epochs: Annotated[int, typer.Option(help="Timed epochs of each row.")] = 2,
) -> None:
    """Time all rows and print the table."""
    torch.set_num_threads(1)
    meta = load_recipe(find_recipe(recipe)).meta
    total = load_recipe(find_recipe(recipe)).train.epochs
    assert meta is not None, "the recipe has no outer loop"
    first = math.ceil(meta.warmup)
    measured: dict[str, list[float]] = {row: [] for row in ROWS}
    for epoch in range(first, first + epochs):
        rows = {
            row: training_steps(recipe, [f"data.root={root}", *ROWS[row]], epoch)
            for row in ROWS
        }
        seconds = dict.fromkeys(ROWS, 0.0)
        for _ in range(max(next(steps) for steps in rows.values())):
            for row, steps in rows.items():
                start = time.process_time()
                next(steps, None)
                seconds[row] += time.process_time() - start
        for row, value in seconds.items():
            measured[row].append(value)
    print(f"{recipe}, median of {epochs} epochs\n")
    print("| | s per epoch | to LoRA, epoch | whole run |\n|---|---:|---:|---:|")
    for row, values in measured.items():
        ratio = statistics.median(
            value / lora for value, lora in zip(values, measured["LoRA"], strict=True)
        )
        whole = (first + (total - first) * ratio) / total
        print(
            f"| {row} | {statistics.median(values):.2f} | {ratio:.3f} | {whole:.3f} |"
        )


def training_steps(recipe: str, overrides: list[str], epoch: int) -> Iterator[int]:
    """Yield the number of steps of an epoch, and then once after each step, which is taken in between."""
    settings = load_recipe(find_recipe(recipe), overrides)
    retain_freed_memory()
    seed_generators(settings.seed)
    setup = set_up(settings)
    initialize_weights(setup)
    learner = make_learner(setup)
    yield learner.batches.steps(epoch)
    for index, _, _ in train_epoch(learner, epoch):
        yield index


if __name__ == "__main__":
    with explained_errors():
        typer.run(main)
