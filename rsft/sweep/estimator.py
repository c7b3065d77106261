"""Proposals of Optuna's tree-structured Parzen estimator (TPE)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from rsft.recipe.text import parse_value, to_yaml
from rsft.sweep.outcome import TrialOutcome
from rsft.sweep.schema import Space, Sweep
from rsft.sweep.trials import KeyValues, round_to_four_digits

optuna.logging.set_verbosity(optuna.logging.WARNING)


class TPEProposals:
    """Proposals of a tree-structured Parzen estimator (Bergstra et al. 2011) for the search of a sweep.

    Args:
        sweep: the sweep; its metric is optimized.
        finished: outcomes of earlier trials, which count among the sweep's `trials`.
    """

    def __init__(self, sweep: Sweep, finished: Iterable[TrialOutcome]) -> None:
        self.sweep, earlier = sweep, list(finished)
        self.spaces = {key: _distribution(space) for key, space in sweep.search.items()}
        sampler = optuna.samplers.TPESampler(seed=sweep.seed + len(earlier), constant_liar=True)
        self.study = optuna.create_study(direction="maximize" if sweep.mode == "max" else "minimize", sampler=sampler)
        self.remaining = (sweep.trials or 0) - len(earlier)
        self._open: dict[str, optuna.Trial] = {}
        for outcome in earlier:
            self.study.add_trial(self._frozen(outcome))

    def ask(self) -> KeyValues | None:
        """Return the keys of the next trial; None if no trial remains."""
        if self.remaining <= 0:
            return None
        self.remaining -= 1
        trial = self.study.ask(self.spaces)
        keys = {key: self._value(key, value) for key, value in trial.params.items()}
        self._open[to_yaml(keys)] = trial
        return keys

    def tell(self, keys: Mapping[str, Any], outcome: TrialOutcome | None) -> None:
        """Add the outcome of a trial to the estimator.

        Args:
            keys: keys of the trial, from `ask`.
            outcome: outcome of the trial; None if it was stopped.
        """
        trial = self._open.pop(to_yaml(dict(keys)))
        if outcome is not None and outcome.status == "done":
            self.study.tell(trial, outcome.metrics[self.sweep.metric])
        else:
            self.study.tell(trial, state=optuna.trial.TrialState.FAIL)

    def _value(self, key: str, value: Any) -> Any:
        (kind, values), *_ = self.sweep.search[key].items()
        if kind == "choice":
            return parse_value(value)
        return value if kind == "integer" else round_to_four_digits(value, *values)

    def _frozen(self, outcome: TrialOutcome) -> optuna.trial.FrozenTrial:
        spaces = self.sweep.search
        parameters = {key: to_yaml(value) if "choice" in spaces[key] else value for key, value in outcome.keys.items()}
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
        return CategoricalDistribution([to_yaml(value) for value in values])  # Optuna keeps simple values only
    if kind == "integer":
        return IntDistribution(*values)
    low, high = values
    return FloatDistribution(low, high, log=kind == "log")
