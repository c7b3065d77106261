"""Fine-tuning from top to bottom: open data, build the model, train, write the bundle.

An ensemble is several independent runs of one recipe with different seeds, and the
bundle that averages them.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rsft.data.chips.folds import open_store
from rsft.data.chips.store import ChipStore
from rsft.errors import RequestError
from rsft.models.bundle.bundle import (
    Bundle,
    combine_bundles,
    find_bundle,
    source_license,
)
from rsft.models.devices import choose_device, move_network
from rsft.peft.methods.registry import packages_of
from rsft.recipe.schema import Recipe
from rsft.training.assembly import make_learner, part_kinds
from rsft.training.calibration import calibrate_bundle
from rsft.training.checkpointing import load_newest_checkpoint
from rsft.training.cost import count_values
from rsft.training.epochs import count_training_chips, resolve_epochs
from rsft.training.fit import fit
from rsft.training.init.prefix_cache import CachedPrefixTokens
from rsft.training.init.start_bundle import StartBundle
from rsft.training.learner import Learner
from rsft.training.listeners import RunListener
from rsft.training.meta.schedules import outer_loop
from rsft.training.precision import resolve_precision
from rsft.training.processes import (
    broadcast_object,
    launch_processes,
    require_consistent_processes,
)
from rsft.training.replay import correction_recipe, replay
from rsft.training.runs.reader import METRICS_FILE, TRAINED, read_run_info
from rsft.training.runs.writer import (
    MODULATOR_FILE,
    Run,
    mark_done,
    require_unchanged_inputs,
)
from rsft.training.setup import (
    TrainingSetup,
    initialize_weights,
    read_splits,
    seed_generators,
    set_up,
)
from rsft.training.trackers import TrackerListener
from rsft.types import JsonObject, Progress
from rsft.utils.atomic_files import atomic_file
from rsft.utils.progress import announce


def train_single_run(
    recipe: Recipe,
    runs: Path = Path("runs"),
    listener: RunListener | None = None,
    *,
    source: Path | None = None,
    resume: Path | None = None,
    entries: Mapping[str, Any] | None = None,
    member_start: StartBundle | None = None,
) -> Run:
    """Train one classifier, regardless of `train.ensemble_size`, and write the bundle.

    Args:
        recipe: the recipe of the run.
        runs: folder in which the run folder is created.
        listener: called with the progress; None for no listener.
        source: the recipe's file; run.json records the Git state of the repository
            around it.
        resume: folder of an unfinished run of the same recipe to continue.
        entries: further entries of run.json.
        member_start: where a member of an ensemble starts; other runs start at
            `train.start_bundle` of their recipe.

    Returns:
        The finished run; in a process other than rank zero, a run that writes nothing.

    Raises:
        Interrupted: SIGINT or SIGTERM; the run can be resumed.
        RequestError: data or a backbone is missing, or a split has no chips.
        DataError: a chip cannot be read.
        RsftError: a loss is not finite.
    """
    trackers = TrackerListener(recipe)
    _check_settings(recipe)
    device = choose_device(recipe.train.device)
    progress = listener.on_progress if listener else None
    recipe = _resolve(recipe)
    seed_generators(recipe.seed)
    start = member_start or StartBundle.open(recipe, resume)
    setup = set_up(recipe, start, progress)
    if not resume:
        run = Run.create(recipe, runs, source, entries)
    else:
        earlier = read_run_info(resume)
        require_unchanged_inputs(earlier, setup, device.type)
        run = Run.resume(earlier)
    with run.track_status():
        run.update(precision=recipe.train.precision, device=device.type)
        if start:
            if not member_start:  # an ensemble has one copy
                start.copy_into(run.folder)
            adapted = setup.classifier.adapted
            run.update(start=start.metadata(setup.store, adapted.kept_blocks))
        checkpoint = load_newest_checkpoint(run.checkpoints_dir)
        device, shard = launch_processes(recipe.train, device)
        # with the precision of the first process
        setup = replace(setup, recipe=broadcast_object(recipe))
        move_network(setup.classifier, device)
        if not checkpoint:
            initialize_weights(setup, progress)
        else:
            # the cache of a prefix is computed with it
            setup.classifier.load_learned_state(checkpoint.state["learned"])
        learner = make_learner(setup, shard, progress)
        run.update(**_describe_sizes(setup, learner))
        run.drop_epochs_from(checkpoint.position.epoch if checkpoint else 0)
        listeners: list[RunListener] = []
        if run.is_writer:
            listeners = [listener, trackers] if listener else [trackers]
        groups = setup.store.group_indices
        evaluate = setup.recipe.evaluate
        fit(learner, groups, evaluate, run, listeners, checkpoint)
        run.update(**learner.finish())
        if run.is_writer:
            finish(run, setup, progress)
    return run


def _resolve(recipe: Recipe) -> Recipe:
    """Return a recipe with the precision and the epochs of a run on this machine."""
    recipe = resolve_precision(recipe, choose_device(recipe.train.device))
    return resolve_epochs(recipe, count_training_chips(recipe))


def _describe_sizes(setup: TrainingSetup, learner: Learner) -> JsonObject:
    """Return entries of run.json: what is trained on which chips."""
    classifier = setup.classifier
    blocks_kept = 0
    if isinstance(learner.batches.train, CachedPrefixTokens):
        blocks_kept = max(0, classifier.adapted.prefix_end)
    return {
        "pool": setup.pool and setup.pool.metadata(),
        "trained_parameters": count_values(classifier.theta),
        "modulator_parameters": count_values(classifier.adapted.gamma),
        "total_parameters": count_values(classifier.parameters()),
        "train_chips": len(setup.train),
        "val_chips": len(setup.val),
        "backbone_sha256": setup.encoder.sha256,
        "blocks_kept": blocks_kept,
    }


def _check_settings(recipe: Recipe) -> None:
    """Raise RequestError if keys of different sections contradict each other."""
    require_consistent_processes(recipe.train)
    for part in part_kinds(recipe):
        part.check(recipe)
    outer_loop(recipe.meta).check(recipe)


def finish(run: Run, setup: TrainingSetup, progress: Progress | None = None) -> None:
    """Prune weak sites, calibrate the classifier, write the bundle, and close the run.

    Args:
        run: the run that receives the bundle; the bundle stores its recipe.
        setup: data and trained network.
    """
    recipe = run.recipe or setup.recipe
    if recipe.meta and recipe.meta.prune_below is not None:
        pruned = setup.classifier.adapted.prune(recipe.meta.prune_below)
        run.update(pruned_sites=[str(site) for site in pruned])
    announce(progress, "calibration")
    bundle = make_bundle(recipe, setup)
    bundle = calibrate_bundle(
        bundle, setup.train, setup.val, setup.recipe.train.device, progress
    )
    run.update(bundle_sha256=bundle.save(run.bundle_dir))
    run.finish()


def make_bundle(recipe: Recipe, setup: TrainingSetup) -> Bundle:
    """Return the bundle of a trained network, without calibrator."""
    store = setup.store
    return Bundle(
        recipe=recipe,
        classes=store.classes,
        groups={group: tuple(names) for group, names in store.groups.items()},
        train_counts=tuple(int(count) for count in store.class_counts("train")),
        contract=setup.contract,
        backbone_sha256=setup.encoder.sha256,
        tensors=setup.classifier.learned_state(),
        licenses=(
            source_license("backbone", recipe.backbone.name, setup.encoder.license),
            source_license("data", store.name, store.license),
        ),
        packages=packages_of(recipe.peft.build()),
    )


MEMBERS_DIR = "members"
"""Subfolder of a run folder that contains the run folders of the members."""

SHARED_METADATA = (
    "device",
    "backbone_sha256",
    "trained_parameters",
    "modulator_parameters",
    "total_parameters",
    "train_chips",
    "val_chips",
    "blocks_kept",
    "start",
    "pool",
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
    entries: Mapping[str, Any] | None = None,
    evaluation_follows: bool = False,
) -> Run:
    """Train the classifier of a recipe, or an ensemble of them, and write its bundle.

    A run that starts at a bundle is compared with it on the same chips
    (`rsft.training.replay`).

    Args:
        recipe: the recipe of the run; None with `start` for a short correction run with
            the recipe of the bundle (`rsft.training.replay.correction_recipe`).
        runs: folder in which the run folder is created, as `runs`/<recipe
            name>/<number>.
        listener: called with the progress; None for no listener.
        start: bundle, run folder, or runs/<recipe>, at whose PEFT modules, scales and
            head the run starts; the same as the key `train.start_bundle`.
        source: the recipe's file; run.json records the Git state of the repository
            around it.
        resume: folder of an unfinished run to continue; `resolve_resume` returns its
            recipe.
        entries: further entries of run.json, such as the choice of
            `rsft.study.choice`.
        evaluation_follows: the status stays "trained" until the caller has evaluated
            the run and calls `mark_done`.

    Returns:
        The finished run; in a process other than rank zero, a run that writes nothing.

    Raises:
        Interrupted: SIGINT or SIGTERM; the run can be resumed.
        RequestError: data or a backbone is missing, a split has no chips, or neither
            recipe nor bundle is given.
        RecipeError: the recipe does not agree with the bundle at which the run starts.
        DataError: a chip cannot be read.
        RsftError: a loss is not finite.

    Example:
        >>> from rsft.recipe.library import find_recipe
        >>> from rsft.recipe.load import load_recipe
        >>> overrides = ["data.root=data/ships", "train.epochs=1"]
        >>> run = finetune(load_recipe(find_recipe("quickstart"), overrides))
        >>> run.bundle_dir
        PosixPath('runs/quickstart/001/bundle')
    """
    if not recipe:
        if start is None:
            raise RequestError(
                "neither a recipe nor a bundle to start at", hint="pass recipe or start"
            )
        recipe = correction_recipe(Path(start))
    elif start is not None:
        folder = str(find_bundle(Path(start)))
        recipe = recipe.with_keys("train", start_bundle=folder)
    train = train_single_run if recipe.train.ensemble_size == 1 else train_ensemble
    run = train(recipe, runs, listener, source=source, resume=resume, entries=entries)
    if recipe.train.start_bundle is not None and run.is_writer:
        progress = listener.on_progress if listener else None
        replay(run.folder, recipe.train.device, progress)
    if not evaluation_follows:
        run.metadata["status"] = "done"
        if run.is_writer:
            mark_done(run.folder)
    return run


def train_ensemble(
    recipe: Recipe,
    runs: Path,
    listener: RunListener | None,
    *,
    source: Path | None,
    resume: Path | None,
    entries: Mapping[str, Any] | None,
) -> Run:
    """Train the members of an ensemble, and write the bundle that averages them.

    The tables of the run hold the means over its members. A resumed run continues with
    its unfinished member.

    Args:
        recipe: the recipe of the run.
        runs: folder in which the run folder is created.
        listener: called with the progress of each member.
        source: the recipe's file; run.json records the Git state of the repository
            around it.
        resume: folder of an unfinished run to continue.
        entries: further entries of run.json.

    Returns:
        The finished run; in a process other than rank zero, a run that writes nothing.

    Raises:
        Interrupted: SIGINT or SIGTERM; the run can be resumed.
        RequestError: data or a backbone is missing, or a split has no chips.
        DataError: a chip cannot be read.
        RsftError: a loss is not finite.
    """
    # without data, fail before a run folder exists
    ChipStore.open(Path(recipe.data.root))
    start = StartBundle.open(recipe, resume)
    progress = listener.on_progress if listener else None
    recipe = _resolve(recipe)
    if not resume:
        run = Run.create(recipe, runs, source, entries)
    else:
        run = Run.resume(read_run_info(resume))
    with run.track_status():
        run.update(precision=recipe.train.precision)
        if start:
            start.copy_into(run.folder)
        folder = run.folder / MEMBERS_DIR
        members = [
            _train_member(recipe, index, folder, listener, start)
            for index in range(recipe.train.ensemble_size)
        ]
        if run.is_writer:
            first = members[0].metadata
            run.update(**{key: first[key] for key in SHARED_METADATA if key in first})
            _write_mean_table(run, members, METRICS_FILE, ["epoch"])
            _write_mean_table(
                run, members, MODULATOR_FILE, ["epoch", "block", "position"]
            )
            bundle = combine_bundles(
                recipe, [Bundle.load(member.bundle_dir) for member in members]
            )
            store = open_store(Path(recipe.data.root), recipe.data.fold)
            train, val = read_splits(store, bundle.contract, progress)
            bundle = calibrate_bundle(bundle, train, val, recipe.train.device, progress)
            run.update(bundle_sha256=bundle.save(run.bundle_dir))
        run.finish()
    return run


def _train_member(
    recipe: Recipe,
    index: int,
    folder: Path,
    listener: RunListener | None,
    start: StartBundle | None,
) -> Run:
    """Return a finished member, which is read, continued or trained."""
    member = member_recipe(recipe, index)
    member_start = replace(start, member=index) if start else None
    run_folders = sorted((folder / member.name).glob("[0-9]*"))
    resume = run_folders[-1] if run_folders else None
    if resume:
        info = read_run_info(resume)
        if info.status in TRAINED:
            return Run(info.folder, info.metadata)
    return train_single_run(
        member, folder, listener, resume=resume, member_start=member_start
    )


def member_recipe(recipe: Recipe, index: int) -> Recipe:
    """Return the recipe of one member of an ensemble, with its own name and seed."""
    seed = recipe.seed
    # the first member has the recipe's seed, so it equals a single run of the recipe
    if index:
        seed = int(np.random.SeedSequence((seed, index)).generate_state(1)[0])
    member = recipe.model_copy(update={"name": f"run-{index + 1}", "seed": seed})
    return member.with_keys("train", ensemble_size=1)


def _write_mean_table(run: Run, members: list[Run], name: str, keys: list[str]) -> None:
    """Write the mean over the members of each row, which `keys` identify.

    A table that a member lacks is skipped.
    """
    paths = [member.folder / name for member in members]
    if all(path.is_file() for path in paths):
        rows = pd.concat([pd.read_csv(path) for path in paths])
        with atomic_file(run.folder / name) as temporary:
            rows.groupby(keys, sort=False).mean().reset_index().to_csv(
                temporary, index=False, float_format="%.6g"
            )
