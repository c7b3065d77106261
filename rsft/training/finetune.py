"""Fine-tuning: the entry point of `rsft finetune`, for one run or an ensemble.

An ensemble is several independent runs of one recipe with different seeds, and the bundle that averages them.
"""

import logging
from pathlib import Path

import numpy as np
import pandas as pd

from rsft.data.chips.store import ChipStore
from rsft.data.loading.batches import ChipImages
from rsft.errors import RequestError
from rsft.models.averaging import tta_warning
from rsft.models.bundle.bundle import Bundle, combine_bundles, find_bundle
from rsft.models.factory import choose_device
from rsft.recipe.schema import Recipe
from rsft.training.calibration import calibrate_bundle
from rsft.training.processes import is_rank_zero, resolve_precision
from rsft.training.recorder import RunListener
from rsft.training.replay import correction_recipe, replay
from rsft.training.runs.reader import METRICS_FILE, TRAINED, read_run_info
from rsft.training.runs.writer import MODULATOR_FILE, Run, mark_done
from rsft.training.single_run import train_single_run
from rsft.training.start_bundle import StartBundle
from rsft.utils.atomic_files import atomic_file

MEMBERS_DIR = "members"
"""Subfolder of a run folder that contains the run folders of the members."""

_log = logging.getLogger(__name__)

SHARED_METADATA = (
    "device",
    "backbone_sha256",
    "trained_parameters",
    "modulator_parameters",
    "total_parameters",
    "train_chips",
    "val_chips",
    "stage_depths",
    "blocks_kept",
    "start",
)
"""Entries of run.json that all members have in common."""


def finetune(
    recipe: Recipe | None = None,
    runs: Path = Path("runs"),
    listener: RunListener | None = None,
    *,
    start: Path | str | None = None,
    source: Path | None = None,
    resume: Path | None = None,
    evaluation_follows: bool = False,
) -> Run:
    """Train the classifier of a recipe and write its bundle; with `train.ensemble_size` > 1, train an ensemble.

    A run that starts at a bundle is compared with it on the same chips (`rsft.training.replay`).

    Args:
        recipe: the recipe of the run; None with `start` for a short correction run with the recipe of the bundle
            (`rsft.training.replay.correction_recipe`).
        runs: folder in which the run folder is created, as `runs`/<recipe name>/<number>.
        listener: called with the progress; None for no listener.
        start: bundle, run folder, or runs/<recipe>, at whose PEFT modules, scales and head the run starts; the same as
            the key `train.start_bundle`.
        source: the recipe's file; run.json records the Git state of the repository around it.
        resume: folder of an unfinished run to continue; `resolve_resume` returns its recipe.
        evaluation_follows: the status stays "trained" until the caller has evaluated the run and calls `mark_done`.

    Returns:
        The finished run; in a process other than rank zero, a run that writes nothing.

    Raises:
        Interrupted: SIGINT or SIGTERM; the run can be resumed.
        RequestError: data or a backbone is missing, a split has no chips, or neither recipe nor bundle is given.
        RecipeError: the recipe does not agree with the bundle at which the run starts.
        DataError: a chip cannot be read.
        RsftError: a loss is not finite.

    Example:
        >>> from rsft.recipe.library import find_recipe
        >>> from rsft.recipe.load import load_recipe
        >>> run = finetune(load_recipe(find_recipe("quickstart"), ["data.root=data/ships", "train.epochs=1"]))
        >>> run.bundle_dir
        PosixPath('runs/quickstart/001/bundle')
    """
    if recipe is None and start is None:
        raise RequestError("neither a recipe nor a bundle to start at", hint="pass recipe or start")
    if recipe is None:
        recipe = correction_recipe(Path(str(start)))
    elif start is not None:
        train_section = recipe.train.model_copy(update={"start_bundle": str(find_bundle(Path(start)))})
        recipe = recipe.model_copy(update={"train": train_section})
    are_chips_turned = recipe.evaluate.tta == "turns"  # else the manifest need not be read here
    warning = tta_warning(recipe, ChipStore.open(Path(recipe.data.root)).units) if are_chips_turned else ""
    if warning and is_rank_zero():
        _log.warning("%s: %s", recipe.name, warning)
    train = train_single_run if recipe.train.ensemble_size == 1 else train_ensemble
    run = train(recipe, runs, listener, source=source, resume=resume)
    if recipe.train.start_bundle is not None and run.is_writer:
        replay(run.folder, recipe.train.device, listener.on_progress if listener else None)
    if not evaluation_follows:
        run.metadata["status"] = "done"
        if run.is_writer:
            mark_done(run.folder)
    return run


def train_ensemble(
    recipe: Recipe,
    runs: Path = Path("runs"),
    listener: RunListener | None = None,
    *,
    source: Path | None = None,
    resume: Path | None = None,
) -> Run:
    """Train `train.ensemble_size` members one after another, and write the bundle that averages them.

    The tables of the run hold the means over its members. A resumed run continues with its unfinished member.

    Args:
        recipe: the recipe of the run.
        runs: folder in which the run folder is created.
        listener: called with the progress of each member.
        source: the recipe's file; run.json records the Git state of the repository around it.
        resume: folder of an unfinished run to continue.

    Returns:
        The finished run; in a process other than rank zero, a run that writes nothing.

    Raises:
        Interrupted: SIGINT or SIGTERM; the run can be resumed.
        RequestError: data or a backbone is missing, or a split has no chips.
        DataError: a chip cannot be read.
        RsftError: a loss is not finite.
    """
    ChipStore.open(Path(recipe.data.root))  # without data, fail before a run folder exists
    start = StartBundle.open(recipe, members=recipe.train.ensemble_size, run=resume)
    recipe, precision_metadata = resolve_precision(recipe, choose_device(recipe.train.device))
    run = Run.create(recipe, runs, source) if resume is None else Run.resume(read_run_info(resume))
    with run.track_status():
        run.update(**precision_metadata)
        if start is not None:
            start.copy_into(run.folder)
        folder, size = run.folder / MEMBERS_DIR, recipe.train.ensemble_size
        members = [_train_member(recipe, index, folder, listener) for index in range(size)]
        if run.is_writer:
            run.update(**{key: value for key, value in members[0].metadata.items() if key in SHARED_METADATA})
            _write_mean_table(run, members, METRICS_FILE, ["epoch"])
            _write_mean_table(run, members, MODULATOR_FILE, ["epoch", "block", "position"])
            bundle = combine_bundles(recipe, [Bundle.load(member.bundle_dir) for member in members])
            store, progress = ChipStore.open(Path(recipe.data.root)), listener.on_progress if listener else None
            train, val = (
                ChipImages(store.root, store.split(split), store.classes, bundle.contract, progress)
                for split in ("train", "val")
            )
            bundle = calibrate_bundle(bundle, train, val, recipe.train.device, progress)
            run.update(bundle_sha256=bundle.save(run.bundle_dir))
        run.finish()
    return run


def member_seed(seed: int, index: int) -> int:
    """Return the seed of a member; the first member has the recipe's seed, so it equals a single run of the recipe."""
    return seed if index == 0 else int(np.random.SeedSequence((seed, index)).generate_state(1)[0])


def _train_member(recipe: Recipe, index: int, folder: Path, listener: RunListener | None) -> Run:
    """Return a finished member: read it if it exists, else continue or start its training."""
    train = recipe.train.model_copy(update={"ensemble_size": 1})
    updates = {"name": f"run-{index + 1}", "seed": member_seed(recipe.seed, index), "train": train}
    member_recipe = recipe.model_copy(update=updates)
    position = index, recipe.train.ensemble_size
    run_folders = sorted((folder / member_recipe.name).glob("[0-9]*"))
    if not run_folders:
        return train_single_run(member_recipe, folder, listener, member=position)
    info = read_run_info(run_folders[-1])
    if info.status in TRAINED:
        return Run(info.folder, info.metadata)
    return train_single_run(member_recipe, folder, listener, resume=info.folder, member=position)


def _write_mean_table(run: Run, members: list[Run], name: str, keys: list[str]) -> None:
    """Write the mean over the members of each row, identified by `keys`; skip a table that a member lacks."""
    paths = [member.folder / name for member in members]
    if all(path.is_file() for path in paths):
        rows = pd.concat([pd.read_csv(path) for path in paths])
        with atomic_file(run.folder / name) as temporary:
            rows.groupby(keys, sort=False).mean().reset_index().to_csv(temporary, index=False, float_format="%.6g")
