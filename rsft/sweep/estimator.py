"""Optuna's estimator as the one who proposes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from rsft.recipe.text import parse_value, show
from rsft.sweep.outcome import Outcome
from rsft.sweep.schema import Space, Sweep
from rsft.sweep.trials import Keys, tidy

optuna.logging.set_verbosity(optuna.logging.WARNING)


class Estimator:
    """Optuna's tree-structured Parzen estimator (Bergstra et al. 2011) over the search of a sweep.

    Args:
        finished: what is known already; it counts among the sweep's `trials`.
    """

    def __init__(self, sweep: Sweep, finished: Iterable[Outcome]) -> None:
        self.sweep, known = sweep, list(finished)
        self.spaces = {key: _distribution(space) for key, space in sweep.search.items()}
        sampler = optuna.samplers.TPESampler(seed=sweep.seed + len(known), constant_liar=True)
        self.study = optuna.create_study(direction="maximize" if sweep.mode == "max" else "minimize", sampler=sampler)
        self.left = (sweep.trials or 0) - len(known)
        self._open: dict[str, optuna.Trial] = {}
        for outcome in known:
            self.study.add_trial(self._frozen(outcome))

    def ask(self) -> Keys | None:
        """What it holds to be best, or most worth to know."""
        if self.left <= 0:
            return None
        self.left -= 1
        trial = self.study.ask(self.spaces)
        keys = {key: self._value(key, value) for key, value in trial.params.items()}
        self._open[show(keys)] = trial
        return keys

    def tell(self, keys: Mapping[str, Any], outcome: Outcome | None) -> None:
        """Learn of it."""
        trial = self._open.pop(show(dict(keys)))
        if outcome is not None and outcome.status == "done":
            self.study.tell(trial, outcome.metrics[self.sweep.metric])
        else:
            self.study.tell(trial, state=optuna.trial.TrialState.FAIL)

    def _value(self, key: str, value: Any) -> Any:
        (kind, values), *_ = self.sweep.search[key].items()
        if kind == "choice":
            return parse_value(value)
        return value if kind == "integer" else tidy(value, *values)

    def _frozen(self, outcome: Outcome) -> optuna.trial.FrozenTrial:
        spaces = self.sweep.search
        parameters = {key: show(value) if "choice" in spaces[key] else value for key, value in outcome.keys.items()}
        done = outcome.status == "done"
        return optuna.trial.create_trial(
            state=optuna.trial.TrialState.COMPLETE if done else optuna.trial.TrialState.FAIL,
            params=parameters,
            distributions=self.spaces,
            value=outcome.metrics[self.sweep.metric] if done else None,
        )


def _distribution(space: Space) -> BaseDistribution:
    (kind, values), *_ = space.items()
    if kind == "choice":
        return CategoricalDistribution([show(value) for value in values])  # Optuna keeps simple values only
    if kind == "integer":
        return IntDistribution(*values)
    low, high = values
    return FloatDistribution(low, high, log=kind == "log")
