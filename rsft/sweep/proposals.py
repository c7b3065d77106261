"""Order of the trials: a fixed list, or the proposals of an estimator (`estimator.py`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from rsft.sweep.outcome import TrialOutcome
from rsft.sweep.trials import KeyValues


class Proposals(Protocol):
    """Source of the keys of trials, which may learn from their outcomes.

    Attributes:
        remaining: number of trials that are not proposed yet.
    """

    remaining: int

    def ask(self) -> KeyValues | None:
        """Return the keys of the next trial; None if no trial remains."""

    def tell(self, keys: Mapping[str, Any], outcome: TrialOutcome | None) -> None:
        """Learn from a trial.

        Args:
            keys: keys of the trial, from `ask`.
            outcome: outcome of the trial; None if it was stopped.
        """


class ListProposals:
    """Proposals from a list, in its order."""

    def __init__(self, keys: Iterable[KeyValues]) -> None:
        self._keys = list(keys)
        self.remaining = len(self._keys)

    def ask(self) -> KeyValues | None:
        """Return the keys of the next trial; None if no trial remains."""
        if not self.remaining:
            return None
        self.remaining -= 1
        return self._keys[-1 - self.remaining]

    def tell(self, keys: Mapping[str, Any], outcome: TrialOutcome | None) -> None:
        """Do nothing: the order of a list is fixed."""
