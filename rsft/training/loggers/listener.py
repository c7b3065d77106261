"""Carries what a run tells to its trackers. A tracker that fails never ends a run; what it lost is counted."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

from rsft.peft import Site
from rsft.recipe.schema import Recipe
from rsft.training.callbacks.recorder import Listener, Step
from rsft.training.loggers.base import Tracker, open_tracker, require_trackers
from rsft.training.runs.writer import Run

FAULTS_IN_A_ROW = 3
"""After so many a tracker is given up: each may have waited minutes for a server."""

_POINTS = {
    "loss": "train/loss",
    "images_per_s": "pace/images_per_s",
    "data_s": "pace/data_s",
    "inner_s": "pace/inner_s",
    "outer_s": "pace/outer_s",
    "memory_mb": "memory/resident_mb",
    "gpu_mb": "memory/gpu_mb",
}
"""What of a step is tracked, and under which name."""

_log = logging.getLogger(__name__)


class Tracking(Listener):
    """Opens the trackers of `track.to`, and notes their ids and faults in run.json.

    Raises:
        RequestError: one of them is not installed.
    """

    def __init__(self, recipe: Recipe) -> None:
        require_trackers(recipe)
        self.recipe = recipe
        self.trackers: dict[str, Tracker] = {}
        self.lost: Counter[str] = Counter()
        self.in_a_row: Counter[str] = Counter()

    def started(self, run: Run, facts: dict[str, Any]) -> None:
        """Open them; those that the run had before it was resumed go on."""
        self.run = run
        known = facts.get("tracking", {})
        for name in self.recipe.track.to:
            self._attempt(name, partial(self._open, name, known.get(name)))
        run.update(tracking={name: tracker.id for name, tracker in self.trackers.items()})

    def stepped(self, step: Step) -> None:
        """One step in `track.every`."""
        if step.done % self.recipe.track.every == 0:
            numbers = asdict(step)
            self._tell(step.done, {tag: numbers[name] for name, tag in _POINTS.items()})

    def epoch_ended(self, row: dict[str, float], scales: dict[Site, float]) -> None:
        """The row, and the modulator's values by site."""
        numbers = {f"epoch/{name}": value for name, value in row.items() if name not in ("epoch", "step")}
        self._tell(int(row["step"]), numbers | {f"modulator/{site}": value for site, value in scales.items()})

    def ended(self, failed: bool) -> None:
        """Close them."""
        for name, tracker in list(self.trackers.items()):
            self._attempt(name, partial(tracker.close, failed))

    def _open(self, name: str, known: str | None) -> None:
        self.trackers[name] = open_tracker(name, self.recipe, self.run.folder, known)

    def _tell(self, step: int, numbers: Mapping[str, float]) -> None:
        known = {name: value for name, value in numbers.items() if math.isfinite(value)}
        for name, tracker in list(self.trackers.items()):
            self._attempt(name, partial(tracker.log, step, known))

    def _attempt(self, name: str, call: Callable[[], None]) -> None:
        try:
            call()
            self.in_a_row[name] = 0
            return
        except Exception as error:  # of a server, a disk, or a library that changed
            _log.warning("track.to %s: %s: %s", name, type(error).__name__, error)
        self.lost[name] += 1
        self.in_a_row[name] += 1
        self.run.update(tracking_lost=dict(self.lost))
        if self.in_a_row[name] == FAULTS_IN_A_ROW:
            _log.warning("track.to %s: given up after %d faults in a row", name, FAULTS_IN_A_ROW)
            self.trackers.pop(name, None)
