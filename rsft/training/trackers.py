"""Listeners to a training run, and the trackers, which record its numbers in addition to its tables.

Only their methods import the libraries of the trackers. This module imports no torch.
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, cast

from rsft.errors import RequestError
from rsft.peft import Site
from rsft.recipe.registries import TRACKERS
from rsft.recipe.text import to_yaml
from rsft.utils.dependencies import disable_telemetry

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

    from rsft.recipe.schema import Recipe
    from rsft.training.runs.writer import Run


@dataclass(frozen=True)
class StepReport:
    """A finished step, and the speed of its epoch so far.

    Attributes:
        epoch: number of the epoch, from 0.
        step: number of the step in its epoch, from 1.
        steps: steps of an epoch.
        done: finished steps of the run.
        total: steps of the run.
        loss: the loss of the inner loop.
        images_per_s: images per second of the inner loop.
        data_s: mean seconds per step outside of both loops, mostly spent waiting for
            data.
        inner_s: mean seconds per step in the inner loop. The time of a joint pass is
            divided between the loops by rows.
        outer_s: mean seconds per step in the outer loop.
        memory_mb: peak resident memory of this process.
        gpu_mb: peak memory allocated on its GPU; NaN without one.
        left_s: estimated seconds to the end of the run, including validations.
    """

    epoch: int
    step: int
    steps: int
    done: int
    total: int
    loss: float
    images_per_s: float
    data_s: float
    inner_s: float
    outer_s: float
    memory_mb: float
    gpu_mb: float
    left_s: float


class RunListener:
    """Base class of listeners to a training run.

    Subclasses override the methods that they need.
    """

    def on_progress(self, done: int, total: int, item: str) -> None:
        """Handle progress before or after training; `item` names the work, such as reading chips."""

    def on_start(self, run: Run, metadata: dict[str, Any]) -> None:
        """Handle the start of training; `metadata` is the content of run.json."""

    def on_step(self, step: StepReport) -> None:
        """Handle a finished step."""

    def on_epoch_end(self, row: dict[str, float], scales: dict[Site, float]) -> None:
        """Handle a finished epoch.

        Args:
            row: columns of metrics.csv.
            scales: learned scales by site; empty without a modulator.
        """

    def on_end(self, failed: bool) -> None:
        """Handle the end of training; `failed` says whether an error or a signal ended it."""


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


@TRACKERS.register
class TensorBoard:
    """TensorBoard: event files in the folder `tensorboard` of the run."""

    name: ClassVar[str] = "tensorboard"
    title: ClassVar[str] = "TensorBoard"
    packages: ClassVar[tuple[str, ...]] = ("tensorboard",)

    def open(self, recipe: Recipe, folder: Path, record_id: str | None) -> Record:
        """Choose the folder, which a resumed run shares.

        The first numbers create a file.
        """
        self.id = self.name
        self.folder = folder / self.name
        self.writer: SummaryWriter | None = None
        return self

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Write the numbers of a step to the disk.

        A new file hides this step and later ones in older files.
        """
        from torch.utils.tensorboard import SummaryWriter

        writer = self.writer or SummaryWriter(str(self.folder), purge_step=step)
        self.writer = None
        for name, value in values.items():
            writer.add_scalar(name, value, step)
        # a killed run loses nothing, and an error of the writing thread is raised here
        writer.flush()
        self.writer = writer  # only without an error, which ends the writing thread

    def close(self, failed: bool) -> None:
        """Close the file, which does not record whether the run failed."""
        if self.writer is not None:
            self.writer.close()


@TRACKERS.register
class MLflow:
    """MLflow: one run in the experiment `track.project`, on a server or in a SQLite file in the working directory."""

    name: ClassVar[str] = "mlflow"
    title: ClassVar[str] = "MLflow"
    packages: ClassVar[tuple[str, ...]] = ("mlflow", "sqlalchemy", "alembic")

    def open(self, recipe: Recipe, folder: Path, record_id: str | None) -> Record:
        """Begin a run of MLflow with the recipe's keys as parameters, or continue the run `record_id`."""
        disable_telemetry("mlflow")
        for library in ("mlflow", "alembic"):
            logging.getLogger(library).setLevel(
                logging.WARNING
            )  # they log every step of creating a SQLite file
        from mlflow import MlflowClient
        from mlflow.entities import Param

        self.client = MlflowClient(
            recipe.track.uri
            or os.environ.get("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
        )
        if record_id is not None:
            self.id = record_id
            self.client.update_run(record_id, status="RUNNING")
            return self
        project = recipe.track.project
        name = f"{recipe.name}/{folder.name}"
        experiment = self.client.get_experiment_by_name(project)
        if experiment:
            parent_id = experiment.experiment_id
        else:
            parent_id = self.client.create_experiment(project)
        self.id = self.client.create_run(
            parent_id, run_name=name, tags={"folder": str(folder.resolve())}
        ).info.run_id
        self.client.log_batch(
            self.id,
            params=[
                Param(key, to_yaml(value)) for key, value in recipe.flatten().items()
            ],
        )
        return self

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Record the numbers of a step in one call."""
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        self.client.log_batch(
            self.id, [Metric(name, value, now, step) for name, value in values.items()]
        )

    def close(self, failed: bool) -> None:
        """Mark the run as finished or failed."""
        self.client.set_terminated(self.id, "FAILED" if failed else "FINISHED")


@TRACKERS.register
class WandB:
    """Weights & Biases: one run in the project `track.project`.

    With WANDB_MODE=offline it stays in the run folder.
    """

    name: ClassVar[str] = "wandb"
    title: ClassVar[str] = "Weights & Biases"
    packages: ClassVar[tuple[str, ...]] = ("wandb",)

    def open(self, recipe: Recipe, folder: Path, record_id: str | None) -> Record:
        """Begin a run with the recipe's keys as its configuration, or continue the run `record_id`."""
        disable_telemetry("wandb")
        import wandb

        self.run: Any = wandb.init(
            project=recipe.track.project,
            name=f"{recipe.name}/{folder.name}",
            id=record_id,
            resume="allow",
            dir=folder,
            config=recipe.flatten(),
            settings=wandb.Settings(silent=True, console="off"),
        )
        self.id = str(self.run.id)
        return self

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Record the numbers of a step; two calls at one step become one row."""
        self.run.log(dict(values), step=step)

    def close(self, failed: bool) -> None:
        """End the run with exit code 0 or, if it failed, 1."""
        self.run.finish(exit_code=int(failed))


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
