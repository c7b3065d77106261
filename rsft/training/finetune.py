"""Fine-tuning: the entry point of `rsft finetune`."""

from __future__ import annotations

import logging
from pathlib import Path

from rsft.data.chips.store import ChipStore
from rsft.models.averaging import tta_warning
from rsft.recipe.schema import Recipe
from rsft.training.distributed.collectives import is_rank_zero
from rsft.training.ensemble import train_ensemble
from rsft.training.recorder import RunListener
from rsft.training.runs.writer import Run
from rsft.training.single_run import train_single_run

_log = logging.getLogger(__name__)


def finetune(
    recipe: Recipe,
    runs: Path = Path("runs"),
    listener: RunListener | None = None,
    *,
    source: Path | None = None,
    resume: Path | None = None,
) -> Run:
    """Train the classifier of a recipe and write its bundle; with `train.ensemble_size` > 1, train an ensemble.

    Args:
        recipe: the recipe of the run.
        runs: folder in which the run folder is created, as `runs`/<recipe name>/<number>.
        listener: called with the progress; None for no listener.
        source: the recipe's file; run.json records the Git state of the repository around it.
        resume: folder of an unfinished run to continue; `resolve_resume` returns its recipe.

    Returns:
        The finished run; in a process other than rank zero, a run that writes nothing.

    Raises:
        Interrupted: SIGINT or SIGTERM; the run can be resumed.
        RequestError: data or a backbone is missing, or a split has no chips.
        DataError: a chip cannot be read.
        RsftError: a loss is not finite.

    Example:
        >>> from rsft.recipe.library import find_recipe
        >>> from rsft.recipe.load import load_recipe
        >>> run = finetune(load_recipe(find_recipe("quickstart"), ["data.root=data/ships", "train.epochs=1"]))
        >>> run.bundle_dir
        PosixPath('runs/quickstart/001/bundle')
    """
    are_chips_turned = recipe.evaluate.tta == "turns"  # else the manifest need not be read here
    warning = tta_warning(recipe, ChipStore.open(Path(recipe.data.root)).units) if are_chips_turned else ""
    if warning and is_rank_zero():
        _log.warning("%s: %s", recipe.name, warning)
    train = train_single_run if recipe.train.ensemble_size == 1 else train_ensemble
    return train(recipe, runs, listener, source=source, resume=resume)
