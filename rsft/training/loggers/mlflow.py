"""MLflow, by its client: a server, or a SQLite file in the working directory."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path

from rsft.recipe.load import flatten
from rsft.recipe.schema import Recipe
from rsft.recipe.text import show

PARAMETERS_AT_ONCE = 100
"""The limit of MLflow's interface."""


def open_run(recipe: Recipe, folder: Path, known: str | None) -> MLflow:
    """Begin a run in the experiment `track.project`, or go on with `known`."""
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)  # making a SQLite file is no news
    uri = recipe.track.uri or os.environ.get("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    return MLflow(recipe, folder, uri, known)


class MLflow:
    """One run of MLflow, with the recipe's keys as its parameters."""

    def __init__(self, recipe: Recipe, folder: Path, uri: str, known: str | None) -> None:
        from mlflow import MlflowClient

        self.client = MlflowClient(uri)
        if known is not None:
            self.id = known
            self.client.update_run(known, status="RUNNING")
            return
        name = f"{recipe.name}/{folder.name}"
        run = self.client.create_run(self._experiment(recipe), run_name=name, tags={"folder": str(folder.resolve())})
        self.id = str(run.info.run_id)
        self._log_recipe(recipe)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """The numbers, in one call."""
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        self.client.log_batch(self.id, [Metric(name, value, now, step) for name, value in values.items()])

    def close(self, failed: bool) -> None:
        """The run is over."""
        self.client.set_terminated(self.id, "FAILED" if failed else "FINISHED")

    def _experiment(self, recipe: Recipe) -> str:
        found = self.client.get_experiment_by_name(recipe.track.project)
        return str(found.experiment_id if found else self.client.create_experiment(recipe.track.project))

    def _log_recipe(self, recipe: Recipe) -> None:
        from mlflow.entities import Param

        parameters = [Param(key, show(value)) for key, value in flatten(recipe).items()]
        for start in range(0, len(parameters), PARAMETERS_AT_ONCE):
            self.client.log_batch(self.id, params=parameters[start : start + PARAMETERS_AT_ONCE])
