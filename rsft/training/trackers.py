"""Trackers record the numbers of a run in addition to its tables.

This module imports no torch, and no library of a tracker.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, cast

from rsft.errors import RequestError
from rsft.peft import Site
from rsft.recipe.registries import TRACKERS
from rsft.training.listeners import RunListener, StepReport

if TYPE_CHECKING:
    from rsft.recipe.schema import Recipe
    from rsft.training.runs.writer import Run


class Record(Protocol):
    """The open record of one run in a tracker.

    `id` identifies it, so that a resumed run can continue it.
    """

    id: str

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Record finite numbers by name, such as "train/loss", at a step: number of batches since the start."""

    def close(self, failed: bool) -> None:
        """End the record; `failed` says whether the run ended with an error."""


class Tracker(Protocol):
    """A tracker: its name in recipes, its title in reports, and the packages that must be installed."""

    name: ClassVar[str]
    title: ClassVar[str]
    packages: ClassVar[tuple[str, ...]]

    def open(self, recipe: Recipe, folder: Path, record_id: str | None) -> Record:
        """Begin the record of a run, or continue one.

        Args:
            record_id: id of the record to continue; None begins a new one.

        Returns:
            The open record. rsft's trackers return themselves: one object serves one
            run.
        """


MAX_CONSECUTIVE_ERRORS = 3
"""Number of errors in a row after which a tracker is no longer used: each may have
waited minutes for a server."""

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

    Raises:
        RequestError: the package of a tracker is not installed.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.trackers = {
            name: cast("type[Tracker]", TRACKERS[name])() for name in recipe.track.to
        }
        for name, tracker in self.trackers.items():
            missing = [
                package for package in tracker.packages if find_spec(package) is None
            ]
            if missing:
                raise RequestError(
                    f"the tracker {name} needs {', '.join(missing)}",
                    "track.to",
                    f"pip install 'rsft[track]', or leave {name} out of track.to",
                )
        self.records: dict[str, Record] = {}
        self.errors: Counter[str] = Counter()
        self.consecutive_errors: Counter[str] = Counter()

    def on_start(self, run: Run, metadata: dict[str, Any]) -> None:
        """Open the trackers; a resumed run continues its records and its numbers of errors."""
        self.run = run
        record_ids = metadata.get("tracking", {})
        self.errors = Counter(metadata.get("tracking_lost", {}))
        for name in self.trackers:
            self._attempt(name, partial(self._open, name, record_ids.get(name)))
        ids = {name: record.id for name, record in self.records.items()}
        run.update(
            tracking=record_ids | ids
        )  # also the id of a record that cannot be opened now

    def on_step(self, step: StepReport) -> None:
        """Record the step if its number is a multiple of `track.every`."""
        if step.done % self.recipe.track.every == 0:
            self._log_values(
                step.done, {tag: getattr(step, field) for field, tag in _TAGS.items()}
            )

    def on_epoch_end(self, row: dict[str, float], scales: dict[Site, float]) -> None:
        """Record the row of metrics.csv and the learned scales."""
        values = {
            f"epoch/{name}": value
            for name, value in row.items()
            if name not in ("epoch", "step")
        }
        self._log_values(
            int(row["step"]),
            values | {f"modulator/{site}": scale for site, scale in scales.items()},
        )

    def on_end(self, failed: bool) -> None:
        """Close the trackers."""
        for name, record in list(self.records.items()):
            self._attempt(name, partial(record.close, failed))

    def _open(self, name: str, record_id: str | None) -> None:
        self.records[name] = self.trackers[name].open(
            self.recipe, self.run.folder, record_id
        )

    def _log_values(self, step: int, values: Mapping[str, float]) -> None:
        finite = {name: value for name, value in values.items() if math.isfinite(value)}
        for name, record in list(self.records.items()):
            self._attempt(name, partial(record.log, step, finite))

    def _attempt(self, name: str, call: Callable[[], None]) -> None:
        try:
            call()
            self.consecutive_errors[name] = 0
            return
        except (
            Exception
        ) as error:  # a server is down, a disk is full, or a library has changed
            _log.warning("track.to %s: %s: %s", name, type(error).__name__, error)
        self.errors[name] += 1
        self.consecutive_errors[name] += 1
        self.run.update(tracking_lost=dict(self.errors))
        if self.consecutive_errors[name] == MAX_CONSECUTIVE_ERRORS:
            _log.warning(
                "track.to %s: no longer used after %d errors in a row",
                name,
                MAX_CONSECUTIVE_ERRORS,
            )
            self.records.pop(name, None)
