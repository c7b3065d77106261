"""Which trial comes next: those of a list, or what a search proposes."""

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from rsft.errors import RsftError
from rsft.plugins.sweeps.sweep_file import Space, Sweep
from rsft.plugins.sweeps.trial_list import MAX_TRIALS, make_trial, round_to_four_digits
from rsft.recipe.load import load_recipe
from rsft.recipe.schema import Recipe
from rsft.recipe.text import parse_value, to_yaml
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
        space = {
            key: self._distribution(space) for key, space in self.sweep.search.items()
        }
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
                params=_parameters(self.sweep, trial.keys),
                distributions=space,
            )
            study.add_trial(past)
        return _keys(self.sweep, study.ask(space).params)

    def _distribution(self, space: Space) -> Any:
        optuna = self._optuna.distributions
        ((kind, values),) = space.items()
        if kind == "choice":  # Optuna keeps simple values only
            return optuna.CategoricalDistribution(list(map(to_yaml, values)))
        if kind == "integer":
            return optuna.IntDistribution(*values)
        return optuna.FloatDistribution(*values, log=kind == "log")


def _parameters(sweep: Sweep, keys: KeyValues) -> KeyValues:
    """Return the keys of a trial as parameters of Optuna."""
    parameters = dict(keys)
    for key, space in sweep.search.items():
        if "choice" in space:
            parameters[key] = to_yaml(keys[key])
    return parameters


def _keys(sweep: Sweep, parameters: KeyValues) -> KeyValues:
    """Return the keys of a trial from parameters of Optuna."""
    keys = {}
    for key, space in sweep.search.items():
        ((kind, values),) = space.items()
        keys[key] = parameters[key]
        if kind == "choice":
            keys[key] = parse_value(parameters[key])
        elif kind != "integer":
            keys[key] = round_to_four_digits(parameters[key], *values)
    return keys


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
        ((kind, values),) = space.items()
        value: Any = recipe
        for name in key.split("."):
            value = getattr(value, name, None)
        if kind == "choice":
            equal = [choice for choice in values if str(choice) == str(value)]
            if not equal:
                return None
            value = equal[0]
        elif not isinstance(value, int | float) or not values[0] <= value <= values[1]:
            return None
        keys[key] = value
    return keys
