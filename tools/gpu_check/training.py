"""Compare training steps on a device with those on the CPU, and a resumed training with an uninterrupted one."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from rsft.models.devices import copy_batch, move_network
from rsft.recipe.library import find_recipe
from rsft.recipe.load import load_recipe
from rsft.recipe.schema import Recipe
from rsft.training.assembly import make_learner
from rsft.training.checkpointing import (
    TrainingPosition,
    load_newest_checkpoint,
    save_checkpoint,
)
from rsft.training.fit import train_on_batch
from rsft.training.learner import Learner
from rsft.training.precision import resolve_precision
from rsft.training.setup import initialize_weights, seed_generators, set_up
from tools.gpu_check.equality import (
    DIFFERENCE,
    ONLY_ON_GPU,
    SECTION,
    relative_difference,
    without_tf32,
)
from tools.gpu_check.rows import Figure, NotRunError, Task

STEPS = 4
"""Inner steps of a check. With `outer_every=2` the last one has an outer step."""
SCHEDULES = ("alternating", "joint")
TOLERANCES = {"fp32": 1e-3, "bf16": 0.05, "fp16": 0.05}
"""Precision -> tolerance of the losses of a few steps against those of the CPU in
float32."""
RESUME_TOLERANCE = 1e-5
"""Some sums of a GPU have another order at every call; on a CPU the difference is
zero."""


class Outcome(NamedTuple):
    """Losses of the inner steps (n,), and all learned values in one vector, on the CPU."""

    losses: Tensor
    learned: Tensor


def training_tasks(
    store: Callable[[], Path], device: torch.device, overrides: Sequence[str]
) -> list[Task]:
    """Compare a few steps of each schedule and precision, and a resumed training.

    Args:
        store: returns the chip store of the quick start.
        device: the device to check.
        overrides: keys of the quick start's recipe.

    Returns:
        One task per check.
    """
    tasks = []
    for schedule in SCHEDULES:
        for precision, tolerance in TOLERANCES.items():
            check = partial(
                _compare_with_cpu, device=device, schedule=schedule, precision=precision
            )
            name = f"{STEPS} steps, {schedule}, {precision}"
            run = partial(_check, check, store, overrides, tolerance)
            tasks.append(Task(SECTION, name, run))
        check = partial(compare_resumed, device=device, schedule=schedule)
        name = f"{STEPS} steps resumed after 2, {schedule}"
        run = partial(_check, check, store, overrides, RESUME_TOLERANCE)
        tasks.append(Task(SECTION, name, run))
    return tasks


def _check(
    check: Callable[..., float],
    store: Callable[[], Path],
    overrides: Sequence[str],
    tolerance: float,
) -> list[Figure]:
    with without_tf32():
        difference = check(store=store(), overrides=overrides)
    return [Figure(difference, DIFFERENCE, limit=tolerance)]


def compare_resumed(
    store: Path, device: torch.device, schedule: str, overrides: Sequence[str]
) -> float:
    """Return the difference between learned values with and without an interruption.

    Args:
        store: chip store of the quick start.
        device: where to train.
        schedule: "alternating" or "joint".
        overrides: keys of the quick start's recipe.
    """
    recipe = _load(store, device, schedule, "fp32", overrides)
    whole = take_steps_from(start_training(recipe, device), 0, STEPS)
    interrupted = start_training(recipe, device)
    take_steps_from(interrupted, 0, 2)
    with tempfile.TemporaryDirectory() as folder:
        save_checkpoint(Path(folder), TrainingPosition(0, 2), interrupted.state_dict())
        checkpoint = load_newest_checkpoint(Path(folder))
    assert checkpoint is not None
    resumed = start_training(recipe, device)
    resumed.load_state_dict(checkpoint.state)
    return relative_difference(
        take_steps_from(resumed, 2, STEPS).learned, whole.learned
    )


def start_training(recipe: Recipe, device: torch.device) -> Learner:
    """Build the model of a recipe on a device, as `rsft finetune` does.

    Args:
        recipe: the recipe.
        device: where to train.

    Returns:
        A training before its first step.
    """
    seed_generators(recipe.seed)
    setup = set_up(recipe)
    move_network(setup.classifier, device)
    initialize_weights(setup)
    learner = make_learner(setup)
    learner.classifier.train()
    return learner


def take_steps_from(learner: Learner, first: int, last: int) -> Outcome:
    """Train on the batches from `first` up to, but not including, `last` of the first epoch.

    Args:
        learner: the training.
        first: number of the first batch.
        last: number of the batch after the last one.

    Returns:
        The losses, and the learned values.
    """
    losses = []
    for index, batch in enumerate(learner.batches.training_loader(0, first), first):
        if index == last:
            break
        with learner.autocast():
            batch = copy_batch(batch, learner.device)
            losses.append(train_on_batch(learner, batch, 0, index))
    assert len(losses) == last - first, "the store has too few chips"
    learned = learner.classifier.learned_state().values()
    values = torch.cat([tensor.detach().flatten().cpu().double() for tensor in learned])
    return Outcome(torch.stack(losses).detach().cpu().double(), values)


def _compare_with_cpu(
    store: Path,
    device: torch.device,
    schedule: str,
    overrides: Sequence[str],
    precision: str,
) -> float:
    """Return the difference of the losses; in float32 that of the learned values, if it is larger."""
    if precision == "fp16" and device.type == "cpu":
        raise NotRunError(ONLY_ON_GPU)
    reference = _reference(store, schedule, tuple(overrides))
    recipe = _load(store, device, schedule, precision, overrides)
    outcome = take_steps_from(start_training(recipe, device), 0, STEPS)
    difference = relative_difference(outcome.losses, reference.losses)
    if precision != "fp32":
        return difference
    return max(difference, relative_difference(outcome.learned, reference.learned))


@cache
def _reference(store: Path, schedule: str, overrides: tuple[str, ...]) -> Outcome:
    """Return what the CPU computes in float32."""
    cpu = torch.device("cpu")
    recipe = _load(store, cpu, schedule, "fp32", overrides)
    return take_steps_from(start_training(recipe, cpu), 0, STEPS)


def _load(
    store: Path,
    device: torch.device,
    schedule: str,
    precision: str,
    overrides: Sequence[str],
) -> Recipe:
    keys = [
        f"data.root={store}",
        f"meta.schedule={schedule}",
        "meta.warmup=0",
        "meta.outer_every=2",
        "train.warmup_epochs=0",
        "train.lr=0.03",
        f"train.precision={precision}",
    ]
    recipe = load_recipe(find_recipe("quickstart"), [*overrides, *keys])
    return resolve_precision(recipe, device)
