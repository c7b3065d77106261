"""Read the paper's tables, and build the trials that repeat their cells."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import yaml
from pydantic import Field

from rsft.data.chips.store import DATASET
from rsft.errors import RequestError
from rsft.recipe.components import Section
from rsft.recipe.library import find_recipe
from rsft.recipe.load import load_recipe
from rsft.recipe.schema import PeftSection, Recipe
from rsft.recipe.text import to_yaml
from rsft.study.trials import Trial
from rsft.types import JsonObject

TABLES_FILE = Path(__file__).with_name("tables.yaml")
METHOD_KEYS = ("positions", "out_insertion", "blocks", "prompts", "dim")
"""Keys of the section peft that the method brings to another base recipe; rank and
scale belong to the network."""

Measure = Literal[
    "head",
    "medium",
    "tail",
    "avg",
    "distance head",
    "distance tail",
    "parameters",
    "head parameters",
]

Column = tuple[str, str]
"""Set and measure of a column."""


class ColumnSet(Section):
    """Columns that the same runs fill: a data set, or a value of a key that varies.

    The braces in `recipe` stand for the part that a row names.
    """

    recipe: str
    keys: JsonObject = Field(default={})
    measures: list[Measure]


class TableRow(Section):
    """A row: the recipe part and keys of its runs, and the paper's numbers.

    A number that the paper does not print is None.
    """

    part: str = ""
    keys: JsonObject = Field(default={})
    classes: int = 0
    paper: list[float | None] = Field(default=[])


class PaperTable(Section):
    """A table or figure of the paper.

    `means` are its last columns. Each averages the measure of that name, or all
    measures, over all sets.
    """

    title: str
    note: str = ""
    part: str = "lora"
    overrides: JsonObject = Field(default={})
    sets: dict[str, ColumnSet]
    means: dict[str, Literal["all", "tail"]] = Field(default={})
    rows: dict[str, TableRow] = Field(min_length=1)

    @property
    def columns(self) -> list[Column]:
        """Set and measure of every column; a mean over sets has an empty set."""
        columns = []
        for name, column_set in self.sets.items():
            columns += [(name, str(measure)) for measure in column_set.measures]
        return columns + [("", name) for name in self.means]

    @property
    def only_counts_parameters(self) -> bool:
        """True if the recipes alone determine its numbers, without a run."""
        measures = [measure for name, measure in self.columns if name]
        return all(measure.endswith("parameters") for measure in measures)

    def paper_values(self, row: str) -> dict[Column, float | None]:
        """Return the paper's numbers of a row.

        Args:
            row: name of the row.

        Returns:
            Numbers by column (set, measure); None for a missing number.

        Raises:
            ValueError: the row has more or fewer numbers than the table has columns.
        """
        printed = self.rows[row].paper or [None] * len(self.columns)
        return dict(zip(self.columns, printed, strict=True))

    def find_sets(self, column: str, one_dataset: bool) -> dict[str, ColumnSet]:
        """Return the sets that are run.

        Args:
            column: name of the only set; "" for all.
            one_dataset: whether all sets have one data set: without `column`, that of
                DOTA, or else of the first set.

        Raises:
            RequestError: the table has no such set.
        """
        if column:
            names = [name for name in self.sets if name.lower() == column.lower()]
        elif one_dataset:
            first = self.sets.get("DOTA", next(iter(self.sets.values())))
            names = [name for name, x in self.sets.items() if x.recipe == first.recipe]
        else:
            names = list(self.sets)
        if not names:
            raise RequestError(
                f"the table has no column {column}",
                "--column",
                f"choose from {', '.join(self.sets)}",
            )
        return {name: self.sets[name] for name in names}


class Cell(NamedTuple):
    """Runs of one row and one set: the name of their recipe, and recipe keys."""

    row: str
    set: str
    recipe: str
    keys: JsonObject


@dataclass(frozen=True)
class TableSettings:
    """How the runs of a table differ from the paper's.

    Attributes:
        base_recipe: name of a recipe that provides data, network and training; "" for
            those of the paper.
        overrides: KEY=VALUE for every recipe.
        seeds: one run per cell and seed; empty for the recipe's seed.
        column: name of the one set of the table that is run; "" for all.
        root: folder of the chip stores, see `store_path`; None for the folders in the
            recipes.
    """

    base_recipe: str = ""
    overrides: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    column: str = ""
    root: Path | None = None


def table_name(number: str) -> str:
    """Return the name of a table, such as "Table 2" or "Figure 1d".

    Args:
        number: number of the table, such as "2" or "Figure-1d".
    """
    if number.startswith("Figure"):
        return number.replace("-", " ")
    return f"Table {number}"


def read_tables(path: Path = TABLES_FILE) -> dict[str, PaperTable]:
    """Read the tables of the paper.

    Args:
        path: path of the YAML file.

    Returns:
        Tables by number, such as "2", "S3" or "Figure-1c".
    """
    tables = yaml.safe_load(path.read_text("utf-8"))
    return {str(key): PaperTable.model_validate(x) for key, x in tables.items()}


def table_cells(table: PaperTable, sets: Mapping[str, ColumnSet]) -> Iterator[Cell]:
    """Iterate over the cells of some sets of a table, row by row."""
    for row_name, row in table.rows.items():
        for name, columns in sets.items():
            part = columns.recipe.format(row.part or table.part)
            yield Cell(row_name, name, part, table.overrides | row.keys | columns.keys)


def store_path(recipe: Recipe, root: Path) -> Path:
    """Return the chip store of a recipe: `root` itself if it is one, or a folder in it.

    Args:
        recipe: names the folder, such as "fusrs", by the last part of its `data.root`.
        root: folder that the user names.
    """
    if (root / DATASET).is_file():
        return root
    return root / Path(recipe.data.root).name


def cell_trials(cell: Cell, settings: TableSettings) -> list[Trial]:
    """Return the trials of a cell.

    Args:
        cell: a cell of a table.
        settings: how its runs differ from the paper's.

    Returns:
        One trial per seed; none if rsft has no recipe of the cell's name.

    Raises:
        RequestError: the base recipe does not exist, or it cannot hold the cell's
            method.
        RecipeError: an override is invalid.
    """
    try:
        find_recipe(cell.recipe)
    except RequestError:
        return []
    seeds = [{"seed": seed} for seed in settings.seeds]
    trials = []
    for seed in seeds or [{}]:
        keys = cell.keys | seed
        recipe = build_recipe(cell.recipe, settings, keys)
        trials.append(Trial({"recipe": cell.recipe} | keys, recipe))
    return trials


def build_recipe(name: str, settings: TableSettings, keys: Mapping[str, Any]) -> Recipe:
    """Return the recipe of a run.

    Args:
        name: name of the shipped recipe that has the method.
        settings: base recipe, overrides and folder of the chip stores.
        keys: values by dotted recipe key, which replace those of recipe and overrides.

    Returns:
        The shipped recipe, or its method on the base recipe.
    """
    recipe = _build_recipe(name, settings, keys)
    if settings.root is None:
        return recipe
    root = str(store_path(recipe, settings.root))
    data = recipe.data.model_copy(update={"root": root})
    return recipe.model_copy(update={"data": data})


def _build_recipe(
    name: str, settings: TableSettings, keys: Mapping[str, Any]
) -> Recipe:
    """Return the recipe of a run without `settings.root`, see `build_recipe`."""
    if not settings.base_recipe:
        changes = [f"{key}={to_yaml(value)}" for key, value in keys.items()]
        return load_recipe(find_recipe(name), [*settings.overrides, *changes])
    values = _move_method(name, settings.base_recipe, settings.overrides).model_dump(
        exclude_unset=True
    )
    for key, value in keys.items():
        section, _, leaf = key.rpartition(".")
        target = values[section] if section else values
        target[leaf] = value
    return Recipe.model_validate(values)


@cache
def _move_method(name: str, base_name: str, overrides: tuple[str, ...]) -> Recipe:
    """Return a base recipe with the method of another recipe.

    Raises:
        RequestError: the method has a modulator, and the base recipe has no section
            meta.
    """
    paper = load_recipe(find_recipe(name))
    base = load_recipe(find_recipe(base_name), overrides)
    if paper.meta is not None and base.meta is None:
        raise RequestError(
            "the table needs a recipe with the section meta",
            base_name,
            "add the section, or name another recipe",
        )
    settings = {"method": paper.peft.method}
    for key, value in paper.peft.settings.items():
        if key in METHOD_KEYS or (key == "scale" and value == "learnable"):
            settings[key] = value
        elif key in base.peft.settings:
            settings[key] = base.peft.settings[key]
    peft = PeftSection.model_validate(settings)
    meta = base.meta if paper.meta else None
    return base.model_copy(update={"name": name, "peft": peft, "meta": meta})
