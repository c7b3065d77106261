"""What a run folder holds, read and checked."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Self, TypeVar

import pandas as pd
from pydantic import BaseModel, Field, model_validator

from rsft.errors import DataError, RequestError
from rsft.recipe.load import load_recipe
from rsft.recipe.schema import Recipe

T = TypeVar("T")

EPOCH_COLUMNS = ["epoch", "train_loss", "meta_loss", "val_loss", "val_macro", "val_head", "val_medium", "val_tail"]
EPOCH_COLUMNS += ["seconds", "images_per_s"]
SCALE_COLUMNS = ["epoch", "block", "position", "value"]


class Interval(BaseModel):
    """A value with its 95 % interval, in 0-1."""

    value: float
    low: float
    high: float


class Worst(BaseModel):
    """The class of lowest recall."""

    name: str = Field(alias="class")
    value: float


class Summary(BaseModel):
    """One method's numbers (`rsft.metrics.accuracy.Summary`), in 0-1; lists by class."""

    micro: Interval
    macro: Interval
    macro_f1: Interval
    avg: Interval | None
    head: Interval | None
    medium: Interval | None
    tail: Interval | None
    worst: Worst
    harmonic: float
    ece: float | None
    recall: list[float | None]
    precision: list[float | None]


class Evaluation(BaseModel):
    """evaluation/metrics.json: the run's method first, then the baselines."""

    data: str
    split: str
    count: int
    classes: list[str]
    train_counts: list[int]
    groups: dict[str, list[int]]
    methods: dict[str, Summary] = Field(min_length=1)
    confusion: list[list[int]]

    @model_validator(mode="after")
    def _check_lengths(self) -> Self:
        lengths = {len(self.train_counts), len(self.confusion), *map(len, self.confusion)}
        lengths |= {len(values) for own in self.methods.values() for values in (own.recall, own.precision)}
        if lengths != {len(self.classes)}:
            raise ValueError("a list does not have one entry a class")
        return self

    @property
    def method(self) -> str:
        """The name of the run's own method."""
        return next(iter(self.methods))

    @property
    def summary(self) -> Summary:
        """The run's own numbers."""
        return self.methods[self.method]

    @property
    def baselines(self) -> dict[str, Summary]:
        """The numbers it is shown beside."""
        return {name: summary for name, summary in self.methods.items() if name != self.method}


class Facts(BaseModel):
    """run.json; a run that was cut short lacks the later keys."""

    status: str
    started: datetime
    seconds: float | None = None
    device: str | None = None
    machine: str | None = None
    trained_parameters: int | None = None
    modulator_parameters: int | None = None
    total_parameters: int | None = None
    train_chips: int | None = None
    val_chips: int | None = None
    backbone_sha256: str | None = None
    bundle_sha256: str | None = None
    versions: dict[str, str] = {}


@dataclass(frozen=True)
class RunFiles:
    """The files of a run; None is a file that is not there, or a table without rows.

    Attributes:
        recipe: as resolved, with its text as it stands in the folder.
        epochs: metrics.csv.
        scales: modulator.csv.
        bundle_bytes: size of bundle/ on disk.
    """

    folder: Path
    recipe: Recipe
    recipe_text: str
    facts: Facts
    epochs: pd.DataFrame | None
    scales: pd.DataFrame | None
    evaluation: Evaluation | None
    bundle_bytes: int | None


def read_run(folder: Path) -> RunFiles:
    """Read the folder of a run.

    Raises:
        RequestError: it is no run folder.
        DataError: one of its files is damaged.
    """
    recipe = folder / "recipe.yaml"
    if not (recipe.is_file() and (folder / "run.json").is_file()):
        raise RequestError("this is no run", folder, "give a folder runs/<recipe>/<number>: it holds run.json")
    bundle, metrics = folder / "bundle", folder / "evaluation" / "metrics.json"
    return RunFiles(
        folder=folder,
        recipe=load_recipe(recipe),
        recipe_text=recipe.read_text(encoding="utf-8"),
        facts=_read(folder / "run.json", lambda path: Facts.model_validate(_json(path))),
        epochs=_table(folder / "metrics.csv", EPOCH_COLUMNS),
        scales=_table(folder / "modulator.csv", SCALE_COLUMNS),
        evaluation=_read(metrics, lambda path: Evaluation.model_validate(_json(path))) if metrics.is_file() else None,
        bundle_bytes=sum(path.stat().st_size for path in bundle.iterdir()) if bundle.is_dir() else None,
    )


def _table(path: Path, columns: list[str]) -> pd.DataFrame | None:
    if not path.is_file():
        return None
    table = _read(path, lambda path: pd.read_csv(path, usecols=columns))
    return None if table.empty else table


def _read(path: Path, reader: Callable[[Path], T]) -> T:
    try:
        return reader(path)
    except ValueError as error:  # of json, pydantic and pandas alike
        raise DataError(f"{path.name} is damaged ({error})", path, "run the job that wrote it again") from error


def _json(path: Path) -> object:
    return json.loads(path.read_text(encoding="utf-8"))
