"""Tracker for MLflow, on a server or in a SQLite file in the working directory."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from rsft.recipe.registries import TRACKERS
from rsft.recipe.text import to_yaml

if TYPE_CHECKING:
    from rsft.recipe.schema import Recipe

PARAMETERS_PER_CALL = 100
"""Limit of parameters in one call of MLflow's API."""


@TRACKERS.register
@dataclass(frozen=True)
class MLflow:
    """MLflow: one run in the experiment `track.project`."""

    name: ClassVar[str] = "mlflow"
    title: ClassVar[str] = "MLflow"
    packages: ClassVar[tuple[str, ...]] = ("mlflow", "sqlalchemy", "alembic")

    def open(self, recipe: Recipe, folder: Path, record_id: str | None) -> MLflowRun:
        """Begin a run of MLflow, or continue one.

        Args:
            recipe: the recipe of the run.
            folder: the run folder.
            record_id: id of the record to continue; None begins a new one.

        Returns:
            The open record.
        """
        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.WARNING)  # they log every step of creating a SQLite file
        uri = recipe.track.uri or os.environ.get("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
        return MLflowRun(recipe, folder, uri, record_id)


class MLflowRun:
    """One run of MLflow, with the recipe's keys as its parameters.

    Args:
        recipe: the recipe of the run.
        folder: the run folder, which becomes a tag.
        uri: address of the server or database.
        record_id: id of the MLflow run to continue; None begins a new one.
    """

    def __init__(self, recipe: Recipe, folder: Path, uri: str, record_id: str | None) -> None:
        from mlflow import MlflowClient

        self.client = MlflowClient(uri)
        if record_id is not None:
            self.id = record_id
            self.client.update_run(record_id, status="RUNNING")
            return
        name = f"{recipe.name}/{folder.name}"
        run = self.client.create_run(self._experiment(recipe), run_name=name, tags={"folder": str(folder.resolve())})
        self.id = str(run.info.run_id)
        self._log_recipe(recipe)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Record the numbers of a step in one call.

        Args:
            step: number of training batches since the start of the run.
            values: name -> number.
        """
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        self.client.log_batch(self.id, [Metric(name, value, now, step) for name, value in values.items()])

    def close(self, failed: bool) -> None:
        """Mark the run as finished or failed.

        Args:
            failed: whether the run ended with an error.
        """
        self.client.set_terminated(self.id, "FAILED" if failed else "FINISHED")

    def _experiment(self, recipe: Recipe) -> str:
        experiment = self.client.get_experiment_by_name(recipe.track.project)
        return str(experiment.experiment_id if experiment else self.client.create_experiment(recipe.track.project))

    def _log_recipe(self, recipe: Recipe) -> None:
        from mlflow.entities import Param

        parameters = [Param(key, to_yaml(value)) for key, value in recipe.flatten().items()]
        for start in range(0, len(parameters), PARAMETERS_PER_CALL):
            self.client.log_batch(self.id, params=parameters[start : start + PARAMETERS_PER_CALL])
