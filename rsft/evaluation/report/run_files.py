"""Read and check the files of a run folder."""

import io
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated

import pandas as pd
from pydantic import BaseModel, Field, FiniteFloat

from rsft.errors import RequestError
from rsft.evaluation.files import (
    EMBEDDING_FILE,
    PREDICTIONS_FILE,
    read_file,
    read_json,
)
from rsft.evaluation.schema import EVALUATION_FILE, Count, Evaluation
from rsft.models.bundle.bundle import INDEX_FILE, SourceLicense, read_licenses
from rsft.recipe.load import load_recipe
from rsft.recipe.schema import Recipe
from rsft.training.runs.reader import (
    METADATA_FILE,
    METRICS_FILE,
    RECIPE_FILE,
)
from rsft.training.runs.replay_file import REPLAY_FILE, Replay, read_replay
from rsft.types import JsonObject
from rsft.utils.parquet_files import read_parquet
from rsft.utils.tables import Column, check_columns
from rsft.utils.untrusted.documents import read_regular

_MEASURES = (
    "train_loss",
    "meta_loss",
    "val_loss",
    "val_macro",
    "val_head",
    "val_medium",
    "val_tail",
)
_COSTS = ("memory_mb", "gpu_mb")
EPOCH_COLUMNS = [
    Column("epoch", "finite number"),
    *(Column(name, "number", optional=True) for name in _MEASURES),
    *(Column(name, "finite number", optional=True, required=False) for name in _COSTS),
]
SCALE_COLUMNS = [
    *(Column(name, "finite number") for name in ("epoch", "block")),
    Column("position"),
    Column("value", "number", optional=True),
]
MAP_COLUMNS = [
    *(Column(name) for name in ("path", "class")),
    *(
        Column(name, "finite number")
        for name in ("frozen_x", "frozen_y", "adapted_x", "adapted_y")
    ),
]
CHIP_COLUMNS = [
    Column("path", unique=True),
    *(Column(name) for name in ("name", "class", "predicted")),
    Column("class_set", "list of names", optional=True, required=False),
    Column("ood", "number", optional=True, required=False),
]


class GitState(BaseModel):
    """The recipe's repository: its newest commit, and whether files were changed."""

    commit: str
    dirty: bool = False


class CandidateRow(BaseModel):
    """A row of the table of a choice, see `rsft.study.comparison.TriedCandidate`."""

    candidate: str
    epochs: Count
    folds: Count
    macro: FiniteFloat | None = None
    macro_spread: FiniteFloat | None = None
    tail: FiniteFloat | None = None
    tail_spread: FiniteFloat | None = None
    cpu_seconds: FiniteFloat
    chosen: bool = False
    fault: str = ""


class RecipeChoice(BaseModel):
    """How the recipe of a run was chosen."""

    sentence: Annotated[str, Field(min_length=1)]
    notes: list[Annotated[str, Field(min_length=1)]] = []
    candidates: list[CandidateRow] = []


class RunMetadata(BaseModel):
    """The content of run.json. Interrupted runs lack some keys.

    Attributes:
        status: status of the run, such as "done" or "interrupted".
        data: "root" and "manifest_sha256" of the chip store.
        start: of a run that started at a bundle, its path ("bundle") and its hash.
        choice: of a run with a recipe that rsft chose, what was tried.
    """

    status: str
    started: datetime
    seconds: FiniteFloat | None = None
    device: str | None = None
    machine: str | None = None
    git: GitState | None = None
    data: dict[str, str] = {}
    trained_parameters: Count | None = None
    total_parameters: Annotated[Count, Field(gt=0)] | None = None
    start: JsonObject = {}
    backbone_sha256: str | None = None
    bundle_sha256: str | None = None
    versions: dict[str, str] = {}
    choice: RecipeChoice | None = None


@dataclass(frozen=True)
class RunFiles:
    """The files of a run.

    None means that the file is missing or that its table has no rows.

    `epochs` is the table metrics.csv, `scales` modulator.csv; `evaluation` is
    evaluation/metrics.json, and the two tables after it lie beside it. `licenses` are
    those of backbone and data, from bundle/bundle.json.
    """

    folder: Path
    recipe: Recipe
    recipe_text: str
    metadata: RunMetadata
    epochs: pd.DataFrame | None
    scales: pd.DataFrame | None
    evaluation: Evaluation | None
    predictions: pd.DataFrame | None
    embedding: pd.DataFrame | None
    licenses: tuple[SourceLicense, ...] | None
    replay: Replay | None

    @property
    def name(self) -> str:
        """Name of the recipe and number of the run, such as "mstar_lt/001"."""
        return f"{self.recipe.name}/{self.folder.resolve().name}"

    @property
    def method(self) -> str:
        """Name of the method in the evaluation, else in the recipe."""
        if self.evaluation:
            return self.evaluation.method
        return self.recipe.peft.title

    @property
    def data(self) -> str:
        """Path of the chip store in the evaluation, else in the recipe."""
        if self.evaluation:
            return self.evaluation.data
        return self.recipe.data.root


def read_run_files(folder: Path) -> RunFiles:
    """Read and check the files of a run folder, RUNS/<recipe>/<number>, for a report.

    Raises:
        RequestError: `folder` is not a run folder.
        DataError: one of its files is damaged.
        WeightsError: the index of its bundle is damaged or was edited.
    """
    recipe = folder / RECIPE_FILE
    metadata = folder / METADATA_FILE
    bundle = folder / "bundle"
    if not (recipe.is_file() and metadata.is_file()):
        raise RequestError(
            f"not a run folder: {RECIPE_FILE} or {METADATA_FILE} is missing",
            folder,
            "name a folder of the form runs/<recipe>/<number>",
        )
    evaluated = folder / "evaluation"
    metrics = evaluated / EVALUATION_FILE
    evaluation = None
    chip_columns = CHIP_COLUMNS
    if metrics.is_file():
        evaluation = read_json(metrics, Evaluation)
        names = evaluation.classes
        chip_columns = CHIP_COLUMNS + [Column(f"p_{name}", "number") for name in names]
    licenses = None
    if (bundle / INDEX_FILE).is_file():
        licenses = read_licenses(bundle)
    return RunFiles(
        folder=folder,
        recipe=load_recipe(recipe),
        recipe_text=recipe.read_text(encoding="utf-8"),
        metadata=read_json(metadata, RunMetadata),
        epochs=_read_table(folder / METRICS_FILE, EPOCH_COLUMNS),
        scales=_read_table(folder / "modulator.csv", SCALE_COLUMNS),
        evaluation=evaluation,
        predictions=_read_table(evaluated / PREDICTIONS_FILE, chip_columns),
        embedding=_read_table(evaluated / EMBEDDING_FILE, MAP_COLUMNS),
        licenses=licenses,
        replay=read_replay(folder / REPLAY_FILE),
    )


def _read_table(path: Path, columns: list[Column]) -> pd.DataFrame | None:
    """Read a table and check its columns; None if missing or without rows."""

    def read(path: Path) -> pd.DataFrame:
        if path.suffix == ".parquet":
            table = read_parquet(path).to_pandas()
        else:
            table = pd.read_csv(io.BytesIO(read_regular(path)))
        check_columns(table, columns)
        values = dict(table)
        for column in columns:
            name = column.name
            if "number" in column.kind and name in values:  # of empty texts
                values[name] = pd.to_numeric(values[name], errors="coerce")
        return pd.DataFrame(values)

    table = read_file(path, read) if path.is_file() else None
    if table is None or table.empty:
        return None
    return table
