"""Fine-tuning: the entry point of `rsft finetune`."""

from __future__ import annotations

import logging
from pathlib import Path

from rsft.data.chips.store import ChipStore
from rsft.errors import RequestError
from rsft.models.averaging import tta_warning
from rsft.models.bundle.bundle import find_bundle
from rsft.recipe.schema import Recipe
from rsft.training.distributed.collectives import is_rank_zero
from rsft.training.ensemble import train_ensemble
from rsft.training.recorder import RunListener
from rsft.training.runs.writer import Run, mark_done
from rsft.training.single_run import train_single_run
from rsft.training.start.recipe import correction_recipe
from rsft.training.start.replay import replay

_log = logging.getLogger(__name__)


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

    A run that starts at a bundle is compared with it on the same chips (`rsft.training.start.replay`).

    Args:
        recipe: the recipe of the run; None with `start` for a short correction run with the recipe of the bundle
            (`rsft.training.start.recipe.correction_recipe`).
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
    recipe = _choose_recipe(recipe, start)
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


def _choose_recipe(recipe: Recipe | None, start: Path | str | None) -> Recipe:
    if recipe is None:
        if start is None:
            raise RequestError("neither a recipe nor a bundle to start at", hint="pass recipe or start")
        return correction_recipe(Path(start))
    if start is None:
        return recipe
    train = recipe.train.model_copy(update={"start_bundle": str(find_bundle(Path(start)))})
    return recipe.model_copy(update={"train": train})
