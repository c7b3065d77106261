"""Independent runs of one recipe, and the bundle that averages them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from rsft.data.chips.store import ChipStore
from rsft.data.loading.datamodule import ChipImages
from rsft.models.bundle.bundle import Bundle, combine
from rsft.models.factory import choose_device
from rsft.recipe.schema import Recipe
from rsft.training import finetune as single_run
from rsft.training.calibration import judged
from rsft.training.callbacks.recorder import Listener
from rsft.training.precision import settle_precision
from rsft.training.runs.reader import METRICS, read_run
from rsft.training.runs.writer import MODULATOR, Run
from rsft.utils.atomic_files import replacing

MEMBERS = "members"
"""The folder in a run's folder that holds the runs it averages, each a run like any other."""

SHARED = (
    "device",
    "backbone_sha256",
    "trained_parameters",
    "modulator_parameters",
    "total_parameters",
    "train_chips",
    "val_chips",
    "blocks_kept",
)
"""Facts of run.json that are the same in all of them."""


def finetune(
    recipe: Recipe,
    runs: Path = Path("runs"),
    listener: Listener | None = None,
    *,
    source: Path | None = None,
    resume: Path | None = None,
) -> Run:
    """Train as `recipe` says, `train.runs` times, and leave a bundle; the arguments and faults are `job.finetune`'s.

    Of several runs the tables hold the means. A resumed one goes on in the run that it was in.
    """
    if recipe.train.runs == 1:
        return single_run.finetune(recipe, runs, listener, source=source, resume=resume)
    ChipStore.open(Path(recipe.data.root))  # before there is a folder that nothing came of
    recipe, arithmetic = settle_precision(recipe, choose_device(recipe.train.device))
    run = Run.create(recipe, runs, source) if resume is None else Run.resume(resume)
    with run.going():
        run.update(**arithmetic)
        members = [_member(recipe, number, run.folder / MEMBERS, listener) for number in range(recipe.train.runs)]
        if run.writing:
            run.update(**{key: members[0].facts[key] for key in SHARED})
            for name, place in ((METRICS, ["epoch"]), (MODULATOR, ["epoch", "block", "position"])):
                _average(run, members, name, place)
            run.update(bundle_sha256=_combined(recipe, members, listener).save(run.bundle))
        run.finish()
    return run


def member_seed(seed: int, number: int) -> int:
    """The seed of run `number`, from 0; the first has the recipe's own, so that it is the run without the others."""
    return seed if number == 0 else int(np.random.SeedSequence((seed, number)).generate_state(1)[0])


def _member(recipe: Recipe, number: int, folder: Path, listener: Listener | None) -> Run:
    """A run that is done: found so, gone on with, or made."""
    train = recipe.train.model_copy(update={"runs": 1})
    update = {"name": f"run-{number + 1}", "seed": member_seed(recipe.seed, number), "train": train}
    own = recipe.model_copy(update=update)
    begun = sorted((folder / own.name).glob("[0-9]*"))
    if not begun:
        return single_run.finetune(own, folder, listener)
    found = read_run(begun[-1])
    if found.status == "done":
        return Run(found.folder, found.facts)
    return single_run.finetune(own, folder, listener, resume=found.folder)


def _combined(recipe: Recipe, members: list[Run], listener: Listener | None) -> Bundle:
    bundle = combine(recipe, [Bundle.load(member.bundle) for member in members])
    store, progress = ChipStore.open(Path(recipe.data.root)), listener.reading if listener else None
    train, val = (
        ChipImages(store.root, store.split(split), store.classes, bundle.contract, progress)
        for split in ("train", "val")
    )
    return judged(bundle, train, val, recipe.train.device, progress)


def _average(run: Run, members: list[Run], name: str, place: list[str]) -> None:
    """Write a table with the means of the members' at every `place`, where they have it."""
    paths = [member.folder / name for member in members]
    if all(path.is_file() for path in paths):
        rows = pd.concat([pd.read_csv(path) for path in paths])
        with replacing(run.folder / name) as temporary:
            rows.groupby(place, sort=False).mean().reset_index().to_csv(temporary, index=False, float_format="%.6g")
