"""Pass the measures of a run to its trackers. An error in a tracker never ends a run; lost calls are counted."""

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
from rsft.training.loggers.base import Tracker, open_tracker, require_trackers
from rsft.training.recorder import RunListener, StepReport
from rsft.training.runs.writer import Run

MAX_CONSECUTIVE_ERRORS = 3
"""Number of errors in a row after which a tracker is no longer used: each may have waited minutes for a server."""

_TAGS = {
    "loss": "train/loss",
    "images_per_s": "pace/images_per_s",
    "data_s": "pace/data_s",
    "inner_s": "pace/inner_s",
    "outer_s": "pace/outer_s",
    "memory_mb": "memory/resident_mb",
    "gpu_mb": "memory/gpu_mb",
}
"""Field of `StepReport` -> tag in the trackers."""

_log = logging.getLogger(__name__)


class TrackerListener(RunListener):
    """Listener that opens the trackers of `track.to`, and writes their ids and numbers of errors to run.json.

    Args:
        recipe: the recipe of the run.

    Raises:
        RequestError: the package of a tracker is not installed.
    """

    def __init__(self, recipe: Recipe) -> None:
        require_trackers(recipe)
        self.recipe = recipe
        self.trackers: dict[str, Tracker] = {}
        self.errors: Counter[str] = Counter()
        self.consecutive_errors: Counter[str] = Counter()

    def on_start(self, run: Run, metadata: dict[str, Any]) -> None:
        """Open the trackers; a resumed run continues its records.

        Args:
            run: the run that starts.
            metadata: the content of run.json.
        """
        self.run = run
        record_ids = metadata.get("tracking", {})
        for name in self.recipe.track.to:
            self._attempt(name, partial(self._open, name, record_ids.get(name)))
        run.update(tracking={name: tracker.id for name, tracker in self.trackers.items()})

    def on_step(self, step: StepReport) -> None:
        """Record the step if its number is a multiple of `track.every`.

        Args:
            step: the step, with its speed.
        """
        if step.done % self.recipe.track.every == 0:
            values = asdict(step)
            self._log_values(step.done, {tag: values[name] for name, tag in _TAGS.items()})

    def on_epoch_end(self, row: dict[str, float], scales: dict[Site, float]) -> None:
        """Record the row of metrics.csv and the learned scales.

        Args:
            row: columns of metrics.csv.
            scales: site -> learned scale; empty without a modulator.
        """
        values = {f"epoch/{name}": value for name, value in row.items() if name not in ("epoch", "step")}
        self._log_values(int(row["step"]), values | {f"modulator/{site}": scale for site, scale in scales.items()})

    def on_end(self, failed: bool) -> None:
        """Close the trackers.

        Args:
            failed: whether an error or a signal ended the run.
        """
        for name, tracker in list(self.trackers.items()):
            self._attempt(name, partial(tracker.close, failed))

    def _open(self, name: str, record_id: str | None) -> None:
        self.trackers[name] = open_tracker(name, self.recipe, self.run.folder, record_id)

    def _log_values(self, step: int, values: Mapping[str, float]) -> None:
        finite = {name: value for name, value in values.items() if math.isfinite(value)}
        for name, tracker in list(self.trackers.items()):
            self._attempt(name, partial(tracker.log, step, finite))

    def _attempt(self, name: str, call: Callable[[], None]) -> None:
        try:
            call()
            self.consecutive_errors[name] = 0
            return
        except Exception as error:  # a server is down, a disk is full, or a library has changed
            _log.warning("track.to %s: %s: %s", name, type(error).__name__, error)
        self.errors[name] += 1
        self.consecutive_errors[name] += 1
        self.run.update(tracking_lost=dict(self.errors))
        if self.consecutive_errors[name] == MAX_CONSECUTIVE_ERRORS:
            _log.warning("track.to %s: no longer used after %d errors in a row", name, MAX_CONSECUTIVE_ERRORS)
            self.trackers.pop(name, None)
