"""What a run folder holds, read and checked."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import pandas as pd
import pyarrow as pa
from pydantic import BaseModel

from rsft.errors import DataError, RequestError
from rsft.evaluation.files import CONTRIBUTIONS, EMBEDDING, METRICS, PREDICTIONS
from rsft.evaluation.report.schema import Evaluation, Facts
from rsft.recipe.load import load_recipe
from rsft.recipe.schema import Recipe

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)

EPOCH_COLUMNS = ["epoch", "train_loss", "meta_loss", "val_loss", "val_macro", "val_head", "val_medium", "val_tail"]
EPOCH_COLUMNS += ["seconds", "images_per_s"]
SCALE_COLUMNS = ["epoch", "block", "position", "value"]
SHARE_COLUMNS = ["block", "position", "share"]
MAP_COLUMNS = ["path", "class", "frozen_x", "frozen_y", "adapted_x", "adapted_y"]
CHIP_COLUMNS = ["name", "path", "class", "predicted"]


@dataclass(frozen=True)
class RunFiles:
    """The files of a run; None is a file that is not there, or a table without rows.

    Attributes:
        recipe: as resolved, with its text as it stands in the folder.
        epochs: metrics.csv.
        scales: modulator.csv.
        predictions, embedding, contributions: of evaluation/.
        bundle_bytes: size of bundle/ on disk.
    """

    folder: Path
    recipe: Recipe
    recipe_text: str
    facts: Facts
    epochs: pd.DataFrame | None
    scales: pd.DataFrame | None
    evaluation: Evaluation | None
    predictions: pd.DataFrame | None
    embedding: pd.DataFrame | None
    contributions: pd.DataFrame | None
    bundle_bytes: int | None

    @property
    def name(self) -> str:
        """Recipe and number, "mstar_lt/001"."""
        return f"{self.recipe.name}/{self.folder.resolve().name}"

    @property
    def data(self) -> str:
        """The prepared root, as it was named."""
        return self.evaluation.data if self.evaluation else self.recipe.data.root


def read_run(folder: Path) -> RunFiles:
    """Read the folder of a run.

    Raises:
        RequestError: it is no run folder.
        DataError: one of its files is damaged.
    """
    recipe, facts, bundle = folder / "recipe.yaml", folder / "run.json", folder / "bundle"
    if not (recipe.is_file() and facts.is_file()):
        raise RequestError("this is no run", folder, "give a folder runs/<recipe>/<number>: it holds run.json")
    evaluated = folder / "evaluation"
    evaluation = _optional(evaluated / METRICS, partial(_model, Evaluation))
    return RunFiles(
        folder=folder,
        recipe=load_recipe(recipe),
        recipe_text=recipe.read_text(encoding="utf-8"),
        facts=_read(facts, partial(_model, Facts)),
        epochs=_table(folder / "metrics.csv", EPOCH_COLUMNS),
        scales=_table(folder / "modulator.csv", SCALE_COLUMNS),
        evaluation=evaluation,
        predictions=_table(evaluated / PREDICTIONS, CHIP_COLUMNS + _probabilities(evaluation)),
        embedding=_table(evaluated / EMBEDDING, MAP_COLUMNS),
        contributions=_table(evaluated / CONTRIBUTIONS, SHARE_COLUMNS),
        bundle_bytes=sum(path.stat().st_size for path in bundle.iterdir()) if bundle.is_dir() else None,
    )


def read_models(path: Path, kind: type[M]) -> list[M]:
    """A JSON list of objects.

    Raises:
        DataError: it is damaged.
    """
    return _read(path, lambda path: [kind.model_validate(item) for item in json.loads(path.read_text("utf-8"))])


def _probabilities(evaluation: Evaluation | None) -> list[str]:
    return [f"p_{name}" for name in evaluation.classes] if evaluation else []


def _table(path: Path, columns: list[str]) -> pd.DataFrame | None:
    table = _optional(path, partial(_columns, columns))
    return None if table is None or table.empty else table


def _columns(wanted: list[str], path: Path) -> pd.DataFrame:
    table = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    if missing := [name for name in wanted if name not in table]:
        raise ValueError(f"no column {', '.join(missing)}")
    return table


def _model(kind: type[M], path: Path) -> M:
    return kind.model_validate(json.loads(path.read_text(encoding="utf-8")))


def _optional(path: Path, reader: Callable[[Path], T]) -> T | None:
    return _read(path, reader) if path.is_file() else None


def _read(path: Path, reader: Callable[[Path], T]) -> T:
    try:
        return reader(path)
    except (ValueError, TypeError, OSError, pa.ArrowException) as error:  # of json, pydantic, pandas and Arrow alike
        raise DataError(f"{path.name} is damaged ({error})", path, "run the job that wrote it again") from error
