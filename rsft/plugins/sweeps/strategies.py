"""Which trial comes next: those of a list, or what a search proposes."""

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from rsft.errors import RsftError
from rsft.plugins.sweeps.sweep_file import Space, Sweep
from rsft.plugins.sweeps.trial_list import MAX_TRIALS, make_trial
from rsft.recipe.load import load_recipe
from rsft.recipe.schema import Recipe
from rsft.study.outcomes import RECIPE, TRIALS, read_outcome
from rsft.study.trials import KeyValues, Trial
from rsft.utils.dependencies import require

ATTEMPTS = 100
"""Number of proposals that may repeat a trial before a search ends."""


Strategy = Callable[[], Trial | None]
"""Chooses a trial of a study to run now; None if none is left."""


def list_strategy(trials: Iterable[Trial]) -> Strategy:
    """Return the trials of a grid or of random draws, in their order."""
    return partial(next, iter(trials), None)


class TpeSearch:
    """Optuna's tree-structured Parzen estimator (Bergstra et al. 2011).

    It knows nothing but the folders of its trials: an interrupted search first goes on
    with the trials that it has proposed. A proposal depends on the seed and on the
    trials before it.

    Args:
        sweep: the sweep.
        folder: folder of the study.
        ended: ids of trials that are not run again.

    Raises:
        RequestError: Optuna is not installed.
    """

    def __init__(self, sweep: Sweep, folder: Path, ended: Iterable[str]) -> None:
        self.sweep = sweep
        self.folder = folder / TRIALS
        self._started = set(ended)
        self._optuna = require("optuna", "sweep")
        self._optuna.logging.set_verbosity(self._optuna.logging.WARNING)

    def __call__(self) -> Trial | None:
        """Return a trial to run now, see `Strategy`."""
        trials = list_proposals(self.sweep, self.folder)
        for trial in trials:
            if trial.id not in self._started:
                self._started.add(trial.id)
                return trial
        if len(trials) >= (self.sweep.trials or 0):
            return None
        known = {trial.id for trial in trials} | self._started
        for attempt in range(ATTEMPTS):
            seed = self.sweep.seed + len(trials) + MAX_TRIALS * attempt
            trial = make_trial(self.sweep, self._propose(trials, seed))
            if trial.id not in known:
                self._started.add(trial.id)
                return trial
        return None

    def _propose(self, trials: Iterable[Trial], seed: int) -> KeyValues:
        """Return the keys of a new trial, given those before it."""
        optuna = self._optuna
        states = optuna.trial.TrialState
        search = self.sweep.search
        distributions = {key: self._distribution(search[key]) for key in search}
        study = optuna.create_study(
            direction="maximize" if self.sweep.mode == "max" else "minimize",
            sampler=optuna.samplers.TPESampler(seed=seed, constant_liar=True),
        )
        for trial in trials:
            outcome = read_outcome(self.folder / trial.id)
            state = states.RUNNING
            value = None
            if outcome is not None:
                value = outcome.metrics.get(self.sweep.metric)
                state = states.FAIL if value is None else states.COMPLETE
            past = optuna.trial.create_trial(
                state=state,
                value=value,
                params={
                    key: _parameter(search[key], trial.keys[key]) for key in search
                },
                distributions=distributions,
            )
            study.add_trial(past)
        parameters = study.ask(distributions).params
        return {key: _value(search[key], parameters[key]) for key in search}

    def _distribution(self, space: Space) -> Any:
        optuna = self._optuna.distributions
        if space.kind == "choice":
            return optuna.CategoricalDistribution(list(range(len(space.values))))
        if space.kind == "integer":
            return optuna.IntDistribution(*space.values)
        return optuna.FloatDistribution(*space.values, log=space.kind == "log")


def _parameter(space: Space, value: Any) -> Any:
    """Return a value of a key for Optuna: a choice is an index."""
    return space.values.index(value) if space.kind == "choice" else value


def _value(space: Space, parameter: Any) -> Any:
    """Return the value of a key for what Optuna proposes."""
    if space.kind == "choice":
        return space.values[parameter]
    return parameter if space.kind == "integer" else space.round(parameter)


def list_proposals(sweep: Sweep, folder: Path) -> list[Trial]:
    """Return the trials that the present search could have proposed, oldest first.

    Args:
        sweep: the sweep.
        folder: folder of all trials.
    """
    files = sorted(folder.glob(f"*/{RECIPE}"), key=lambda file: file.stat().st_mtime_ns)
    trials = []
    for file in files:
        try:
            keys = _find_keys(sweep, load_recipe(file))
        except RsftError:  # a damaged recipe belongs to no trial
            continue
        if keys is not None:
            trial = make_trial(sweep, keys)
            if trial.id == file.parent.name:
                trials.append(trial)
    return trials


def _find_keys(sweep: Sweep, recipe: Recipe) -> KeyValues | None:
    """Return the searched keys of a recipe; None if it is outside of the search."""
    keys = {}
    for key, space in sweep.search.items():
        value: Any = recipe
        for name in key.split("."):
            value = getattr(value, name, None)
        values = space.find(value)
        if not values:
            return None
        keys[key] = values[0]
    return keys
