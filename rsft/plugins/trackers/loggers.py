"""TensorBoard, MLflow and Weights & Biases by the loggers of Lightning.

Only their methods import the libraries.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from rsft.recipe.text import to_yaml
from rsft.utils.dependencies import disable_telemetry

if TYPE_CHECKING:
    from lightning.fabric.loggers.logger import Logger

    from rsft.recipe.schema import Recipe

_MLFLOW_URI = "MLFLOW_TRACKING_URI"


class TensorBoard:
    """TensorBoard: event files in the folder `tensorboard` of the run."""

    name: ClassVar = "tensorboard"
    title: ClassVar = "TensorBoard"
    packages: ClassVar = ("tensorboard",)

    def open(self, recipe: Recipe, folder: Path, record_id: str | None) -> Logger:
        """Choose the folder, which a resumed run shares.

        The first numbers create a file.
        """
        from rsft.plugins.trackers.durable_loggers import EventFileLogger

        return EventFileLogger(folder, name=None, version=self.name)


class MLflow:
    """MLflow: one run in the experiment `track.project`.

    It is on a server, or in a SQLite file in the working directory.
    """

    name: ClassVar = "mlflow"
    title: ClassVar = "MLflow"
    packages: ClassVar = ("mlflow", "sqlalchemy", "alembic")

    def open(self, recipe: Recipe, folder: Path, record_id: str | None) -> Logger:
        """Begin a run of MLflow with the recipe's keys, or continue `record_id`."""
        disable_telemetry("mlflow")
        for library in ("mlflow", "alembic"):
            # they log every step of creating a SQLite file
            logging.getLogger(library).setLevel(logging.WARNING)
        from lightning.pytorch.loggers import MLFlowLogger

        uri_of_user = os.environ.get(_MLFLOW_URI)
        logger = MLFlowLogger(
            experiment_name=recipe.track.project,
            run_name=f"{recipe.name}/{folder.name}",
            tracking_uri=recipe.track.uri or uri_of_user or "sqlite:///mlflow.db",
            tags={"folder": str(folder.resolve())},
            run_id=record_id,
        )
        client = logger.experiment
        # it sets the variable, which the next run of the process would read
        os.environ.pop(_MLFLOW_URI, None)
        if uri_of_user is not None:
            os.environ[_MLFLOW_URI] = uri_of_user
        if record_id is None:
            values = recipe.flatten()
            logger.log_hyperparams({key: to_yaml(x) for key, x in values.items()})
        else:
            client.update_run(record_id, status="RUNNING")
        return logger


class WandB:
    """Weights & Biases: one run in the project `track.project`.

    With WANDB_MODE=offline it stays in the run folder.
    """

    name: ClassVar = "wandb"
    title: ClassVar = "Weights & Biases"
    packages: ClassVar = ("wandb",)

    def open(self, recipe: Recipe, folder: Path, record_id: str | None) -> Logger:
        """Begin a run with the recipe's keys, or continue `record_id`."""
        disable_telemetry("wandb")
        import wandb

        from rsft.plugins.trackers.durable_loggers import FinishedWandbLogger

        logger = FinishedWandbLogger(
            project=recipe.track.project,
            name=f"{recipe.name}/{folder.name}",
            id=record_id,
            save_dir=folder,
            config=recipe.flatten(),
            settings=wandb.Settings(silent=True, console="off"),
        )
        logger.experiment  # noqa: B018  (begins the run, which has an id from then on)
        return logger
