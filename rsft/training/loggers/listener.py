"""Pass the measures of a run to its trackers. An error in a tracker never ends a run; lost calls are counted."""

import logging
import math
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from importlib.util import find_spec
from typing import Any, cast

from rsft.errors import RequestError
from rsft.peft import Site
from rsft.recipe.registries import TRACKERS
from rsft.recipe.schema import Recipe
from rsft.training.loggers.trackers import Record, Tracker
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
        self.recipe = recipe
        self.trackers = {name: cast("type[Tracker]", TRACKERS[name])() for name in recipe.track.to}
        for name, tracker in self.trackers.items():
            missing = [package for package in tracker.packages if find_spec(package) is None]
            if missing:
                hint = f"pip install 'rsft[track]', or leave {name} out of track.to"
                raise RequestError(f"the tracker {name} needs {', '.join(missing)}", "track.to", hint)
        self.records: dict[str, Record] = {}
        self.errors: Counter[str] = Counter()
        self.consecutive_errors: Counter[str] = Counter()

    def on_start(self, run: Run, metadata: dict[str, Any]) -> None:
        """Open the trackers; a resumed run continues its records and its numbers of errors."""
        self.run, record_ids = run, metadata.get("tracking", {})
        self.errors = Counter(metadata.get("tracking_lost", {}))
        for name in self.trackers:
            self._attempt(name, partial(self._open, name, record_ids.get(name)))
        ids = {name: record.id for name, record in self.records.items()}
        run.update(tracking=record_ids | ids)  # also the id of a record that cannot be opened now

    def on_step(self, step: StepReport) -> None:
        """Record the step if its number is a multiple of `track.every`."""
        if step.done % self.recipe.track.every == 0:
            self._log_values(step.done, {tag: getattr(step, field) for field, tag in _TAGS.items()})

    def on_epoch_end(self, row: dict[str, float], scales: dict[Site, float]) -> None:
        """Record the row of metrics.csv and the learned scales."""
        values = {f"epoch/{name}": value for name, value in row.items() if name not in ("epoch", "step")}
        self._log_values(int(row["step"]), values | {f"modulator/{site}": scale for site, scale in scales.items()})

    def on_end(self, failed: bool) -> None:
        """Close the trackers."""
        for name, record in list(self.records.items()):
            self._attempt(name, partial(record.close, failed))

    def _open(self, name: str, record_id: str | None) -> None:
        self.records[name] = self.trackers[name].open(self.recipe, self.run.folder, record_id)

    def _log_values(self, step: int, values: Mapping[str, float]) -> None:
        finite = {name: value for name, value in values.items() if math.isfinite(value)}
        for name, record in list(self.records.items()):
            self._attempt(name, partial(record.log, step, finite))

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
            self.records.pop(name, None)
