"""Trackers record the numbers of a run in addition to its tables.

This module imports no torch, and no library of a tracker.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol, cast

from rsft.errors import RequestError
from rsft.peft import Site
from rsft.recipe.registries import TRACKERS
from rsft.training.listeners import RunListener, StepReport
from rsft.types import JsonObject, Names

if TYPE_CHECKING:
    from lightning.fabric.loggers.logger import Logger

    from rsft.recipe.schema import Recipe
    from rsft.training.runs.reader import Epoch
    from rsft.training.runs.writer import Run


class Tracker(Protocol):
    """A tracker.

    Attributes:
        name: the tracker in recipes.
        title: the tracker in reports.
        packages: packages that must be installed.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    packages: ClassVar[Names]

    def open(self, recipe: Recipe, folder: Path, record_id: str | None) -> Logger:
        """Begin the record of a run, or continue one.

        Args:
            recipe: the recipe of the run.
            folder: the run folder.
            record_id: id of the record to continue; None begins a new one.

        Returns:
            A logger of Lightning. It receives finite numbers by name, such as
            "train/loss", at a step: number of batches since the start. Its `version`
            is the id of the record, and `finalize` gets "success" or "failed".
        """


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
    """Listener that records a run in the trackers of `track.to`.

    It writes their ids to run.json. A tracker that fails is not used again in this
    session, because each attempt may wait minutes for a server.

    Raises:
        RequestError: the package of a tracker is not installed.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.trackers: dict[str, Tracker] = {}
        for name in recipe.track.to:
            tracker = cast("type[Tracker]", TRACKERS[name])()
            missing = [x for x in tracker.packages if not find_spec(x)]
            if missing:
                raise RequestError(
                    f"the tracker {name} needs {', '.join(missing)}",
                    "track.to",
                    f"pip install 'rsft[track]', or leave {name} out of track.to",
                )
            self.trackers[name] = tracker
        self.records: dict[str, Logger] = {}

    def on_start(self, run: Run, metadata: JsonObject) -> None:
        """Open the trackers; a resumed run continues its records."""
        # also the id of a record that cannot be opened now
        record_ids = dict(metadata.get("tracking", {}))
        for name, tracker in self.trackers.items():
            with self._dropped_on_error(name):
                record = tracker.open(self.recipe, run.folder, record_ids.get(name))
                record_ids[name] = str(record.version)
                self.records[name] = record
        run.update(tracking=record_ids)

    def on_step(self, step: StepReport) -> None:
        """Record the step if its number is a multiple of `track.every`."""
        if step.done % self.recipe.track.every == 0:
            values = {tag: getattr(step, field) for field, tag in _TAGS.items()}
            self._log_values(step.done, values)

    def on_epoch_end(self, row: Epoch, scales: dict[Site, float]) -> None:
        """Record the row of metrics.csv and the learned scales."""
        values = {f"epoch/{name}": value for name, value in row.items()}
        del values["epoch/epoch"], values["epoch/step"]
        values |= {f"modulator/{site}": scale for site, scale in scales.items()}
        self._log_values(int(row["step"]), values)

    def on_end(self, failed: bool) -> None:
        """Close the trackers."""
        status = "failed" if failed else "success"
        for name, record in list(self.records.items()):
            with self._dropped_on_error(name):
                record.finalize(status)

    def _log_values(self, step: int, values: Mapping[str, float]) -> None:
        finite = {name: value for name, value in values.items() if math.isfinite(value)}
        for name, record in list(self.records.items()):
            with self._dropped_on_error(name):
                record.log_metrics(finite, step)

    @contextmanager
    def _dropped_on_error(self, name: str) -> Iterator[None]:
        """Drop a tracker whose call raises an error, which never ends the run."""
        try:
            yield
        # a server is down, a disk is full, or a library has changed
        except Exception as error:
            self.records.pop(name, None)
            _log.warning(
                "track.to %s: %s: %s; it gets no more numbers until the run is resumed",
                name,
                type(error).__name__,
                error,
            )
