"""Who says which trial is next: a list of those that are known, or the estimator of `estimator.py`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from rsft.sweep.outcome import Outcome
from rsft.sweep.trials import Keys


class Proposals(Protocol):
    """Gives keys out, and hears what became of them.

    Attributes:
        left: how many there still are.
    """

    left: int

    def ask(self) -> Keys | None:
        """The next trial's; None where there is none left."""

    def tell(self, keys: Mapping[str, Any], outcome: Outcome | None) -> None:
        """How it ended; None where it was stopped."""


class Listed:
    """Those of a list, in its order."""

    def __init__(self, keys: Iterable[Keys]) -> None:
        self._keys = list(keys)
        self.left = len(self._keys)

    def ask(self) -> Keys | None:
        """The next one."""
        if not self.left:
            return None
        self.left -= 1
        return self._keys[-1 - self.left]

    def tell(self, keys: Mapping[str, Any], outcome: Outcome | None) -> None:
        """A list learns nothing."""
