"""Read the paper's tables, and build the trials that repeat their cells."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
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
from rsft.utils.atomic_files import write_text

TABLES_FILE = Path(__file__).with_name("tables.yaml")
METHOD_KEYS = ("positions", "out_insertion", "blocks", "prompts", "dim")
"""Keys of the section peft that the method brings to another base recipe; rank and
scale belong to the network."""

Measure = Literal[
    "head", "medium", "tail", "avg", "distance head", "distance tail", "parameters", "head parameters"
]  # fmt: skip


class ColumnSet(Section):
    """Columns that the same runs fill: one data set, or one value of the key that varies across a grid.

    The braces in `recipe` stand for the part that a row names.
    """

    recipe: str
    keys: dict[str, Any] = Field(default={})
    measures: list[Measure]


class TableRow(Section):
    """A row: the recipe part and keys of its runs, and the paper's number for each column; None if it is missing."""

    part: str = ""
    keys: dict[str, Any] = Field(default={})
    classes: int = 0
    paper: list[float | None] = Field(default=[])


class PaperTable(Section):
    """A table or figure of the paper.

    `means` are its last columns. Each averages the measure of that name, or all
    measures, over all sets. `chart` is the figure that is drawn beside the table.
    """

    title: str
    varies: str
    note: str = ""
    part: str = "lora"
    chart: Literal["", "bubbles"] = ""
    overrides: dict[str, Any] = Field(default={})
    sets: dict[str, ColumnSet]
    means: dict[str, Literal["all", "tail"]] = Field(default={})
    rows: dict[str, TableRow] = Field(min_length=1)

    @property
    def columns(self) -> list[tuple[str, str]]:
        """Set and measure of every column; a mean over sets has an empty set."""
        measured = [
            (name, measure)
            for name, columns in self.sets.items()
            for measure in columns.measures
        ]
        return measured + [("", name) for name in self.means]

    @property
    def only_counts_parameters(self) -> bool:
        """True if the recipes alone determine its numbers, without a run."""
        return all(
            measure.endswith("parameters")
            for columns in self.sets.values()
            for measure in columns.measures
        )

    def paper_values(self, row: str) -> dict[tuple[str, str], float | None]:
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

    def for_one_dataset(self, column: str = "") -> PaperTable:
        """Return the table with the columns of one data set, and without means over sets.

        Args:
            column: name of a set; "" for DOTA, or else the first set, with all sets of
                the same recipe.

        Returns:
            A smaller table with the paper's numbers of these columns.

        Raises:
            RequestError: the table has no such set.
        """
        names = {name.lower(): name for name in self.sets}
        if column and column.lower() not in names:
            raise RequestError(
                f"the table has no column {column}",
                "--column",
                f"choose from {', '.join(self.sets)}",
            )
        recipe = self.sets[
            "DOTA" if "DOTA" in self.sets else next(iter(self.sets))
        ].recipe
        sets = {
            name: columns
            for name, columns in self.sets.items()
            if columns.recipe == recipe
        }
        if column:
            sets = {names[column.lower()]: self.sets[names[column.lower()]]}
        small = self.model_copy(update={"sets": sets, "means": {}})
        rows = {
            name: row.model_copy(
                update={
                    "paper": [
                        self.paper_values(name)[column] for column in small.columns
                    ]
                }
            )
            for name, row in self.rows.items()
        }
        return small.model_copy(update={"rows": rows})


class Cell(NamedTuple):
    """Runs of one row and one set: the name of their recipe, and recipe keys."""

    row: str
    set: str
    recipe: str
    keys: dict[str, Any]


@dataclass(frozen=True)
class TableSettings:
    """How the runs of a table differ from the paper's.

    Attributes:
        base_recipe: name of a recipe that provides data, network and training; "" for
            those of the paper.
        overrides: KEY=VALUE for every recipe.
        seeds: one run per cell and seed; empty for the recipe's seed.
        column: name of the one set of the table that is run; "" for all.
        root: folder of the data, see `rsft.plugins.paper.stores`; "" for the folders in
            the recipes.
    """

    base_recipe: str = ""
    overrides: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    column: str = ""
    root: str = ""

    def save(self, path: Path) -> None:
        """Write the settings, so that a later command can print the table without them."""
        write_text(path, json.dumps(asdict(self), indent=1))

    @classmethod
    def read(cls, path: Path) -> TableSettings:
        """Return the saved settings, or those of the paper without a file.

        Args:
            path: path of the JSON file.

        Returns:
            Settings of the last run of the table.
        """
        if not path.is_file():
            return cls()
        values = json.loads(path.read_text("utf-8"))
        values |= {key: tuple(values[key]) for key in ("overrides", "seeds")}
        return cls(**values)


def read_tables(path: Path = TABLES_FILE) -> dict[str, PaperTable]:
    """Read the tables of the paper.

    Args:
        path: path of the YAML file.

    Returns:
        Tables by number, such as "2", "S3" or "Figure-1c".
    """
    tables = yaml.safe_load(path.read_text("utf-8"))
    return {
        str(number): PaperTable.model_validate(values)
        for number, values in tables.items()
    }


def table_cells(table: PaperTable, root: Path | None = None) -> Iterator[Cell]:
    """Iterate over the cells of a table, row by row.

    Args:
        table: a table of the paper.
        root: folder of the data, see `store_path`; None for the folders in the recipes.

    Yields:
        One cell per row and set.
    """
    for row_name, row in table.rows.items():
        for set_name, columns in table.sets.items():
            recipe = columns.recipe.format(row.part or table.part)
            keys = table.overrides | row.keys | columns.keys
            if root is not None:
                name = Path(
                    load_recipe(
                        find_recipe(columns.recipe.format(table.part))
                    ).data.root
                ).name
                keys |= {"data.root": str(store_path(name, root))}
            yield Cell(row_name, set_name, recipe, keys)


def store_path(name: str, root: Path) -> Path:
    """Return the folder of the chip store of a data set: `root` itself if it is a chip store, or a folder in it.

    Args:
        name: name of the folder, such as "fusrs".
        root: folder that the user names.
    """
    if (root / DATASET).is_file():
        return root
    return root / name


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
    seeds: Sequence[dict[str, int]] = [{"seed": seed} for seed in settings.seeds] or [
        {}
    ]
    keys_by_trial = [cell.keys | seed for seed in seeds]
    return [
        Trial({"recipe": cell.recipe} | keys, build_recipe(cell.recipe, settings, keys))
        for keys in keys_by_trial
    ]


def build_recipe(name: str, settings: TableSettings, keys: Mapping[str, Any]) -> Recipe:
    """Return the recipe of a run.

    Args:
        name: name of the shipped recipe that has the method.
        settings: base recipe and overrides.
        keys: values by dotted recipe key, which replace those of recipe and overrides.

    Returns:
        The shipped recipe, or its method on the base recipe.
    """
    if not settings.base_recipe:
        changes = [
            *settings.overrides,
            *(f"{key}={to_yaml(value)}" for key, value in keys.items()),
        ]
        return load_recipe(find_recipe(name), changes)
    values = _move_method(name, settings.base_recipe, settings.overrides).model_dump(
        exclude_unset=True
    )
    for key, value in keys.items():
        section, _, leaf = key.rpartition(".")
        (values[section] if section else values)[leaf] = value
    return Recipe.model_validate(values)


@cache
def _move_method(name: str, base_name: str, overrides: tuple[str, ...]) -> Recipe:
    """Return the base recipe with the method of the recipe `name`.

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
    paper_keys = [key for key in METHOD_KEYS if key in paper.peft.settings]
    paper_keys += ["scale"] if paper.peft.settings.get("scale") == "learnable" else []
    settings = {
        key: value
        for key, value in base.peft.settings.items()
        if key in paper.peft.settings
    }
    settings |= {key: paper.peft.settings[key] for key in paper_keys}
    method = PeftSection.model_validate({"method": paper.peft.method} | settings)
    return base.model_copy(
        update={"name": name, "peft": method, "meta": base.meta if paper.meta else None}
    )
