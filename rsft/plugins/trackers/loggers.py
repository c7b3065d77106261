"""TensorBoard, MLflow and Weights & Biases.

Only their methods import the libraries.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from rsft.recipe.text import to_yaml
from rsft.utils.dependencies import disable_telemetry

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

    from rsft.recipe.schema import Recipe
    from rsft.training.trackers import Record


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
