"""What the cells of the paper's tables are: their numbers in the paper, and the trials that would repeat them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import yaml
from pydantic import Field

from rsft.errors import RequestError
from rsft.recipe.fields import Section
from rsft.recipe.library import find_recipe
from rsft.recipe.load import load_recipe
from rsft.recipe.schema import PeftSection, Recipe
from rsft.recipe.text import show
from rsft.sweep.trials import Trial
from rsft.utils.atomic_files import write_text

DATA = Path(__file__).with_name("paper_tables.yaml")
METHOD = ("positions", "blocks", "prompts", "dim")
"""Keys of the section peft that come of the paper's recipe when it is moved; rank and scale go with the network."""

Measure = Literal[
    "head", "medium", "tail", "avg", "distance head", "distance tail", "parameters", "head parameters"
]  # fmt: skip


class Set(Section):
    """Columns of a table that come of the same runs: a data set, or a value of the key across a grid.

    The braces in `recipe` stand for the part that a row names.
    """

    recipe: str
    keys: dict[str, Any] = Field(default={})
    measures: list[Measure]


class Row(Section):
    """A row: what its runs are, and what the paper prints, by column; None where the text has lost it."""

    part: str = ""
    keys: dict[str, Any] = Field(default={})
    classes: int = 0
    paper: list[float | None] = Field(default=[])


class PaperTable(Section):
    """A table or figure; `means` are its last columns, over the measures of that name in all sets, or over all."""

    title: str
    varies: str
    note: str = ""
    part: str = "lora"
    overrides: dict[str, Any] = Field(default={})
    sets: dict[str, Set]
    means: dict[str, Literal["all", "tail"]] = Field(default={})
    rows: dict[str, Row] = Field(min_length=1)

    @property
    def columns(self) -> list[tuple[str, str]]:
        """(set, measure) of every column; a mean over sets has no set."""
        own = [(name, measure) for name, each in self.sets.items() for measure in each.measures]
        return own + [("", name) for name in self.means]

    @property
    def is_counted(self) -> bool:
        """Whether its numbers follow from the recipes, without a run."""
        return all(measure.endswith("parameters") for each in self.sets.values() for measure in each.measures)

    def paper(self, row: str) -> dict[tuple[str, str], float | None]:
        """What the paper prints, by column.

        Raises:
            ValueError: numbers for another number of columns.
        """
        printed = self.rows[row].paper or [None] * len(self.columns)
        return dict(zip(self.columns, printed, strict=True))

    def scaled_down(self) -> PaperTable:
        """The table for one data set: the columns of DOTA, or of the first set, and no means over sets."""
        recipe = self.sets["DOTA" if "DOTA" in self.sets else next(iter(self.sets))].recipe
        sets = {name: each for name, each in self.sets.items() if each.recipe == recipe}
        small = self.model_copy(update={"sets": sets, "means": {}})
        rows = {
            name: row.model_copy(update={"paper": [self.paper(name)[column] for column in small.columns]})
            for name, row in self.rows.items()
        }
        return small.model_copy(update={"rows": rows})


class Cell(NamedTuple):
    """What the runs of a row and a set are: a recipe by name, and keys."""

    row: str
    set: str
    recipe: str
    keys: dict[str, Any]


@dataclass(frozen=True)
class Asked:
    """How a table is to be run.

    Attributes:
        on: a recipe whose data, network and training take the place of the paper's; "" for the paper's own.
        overrides: of every recipe.
        seeds: of every cell; empty takes the recipe's.
    """

    on: str = ""
    overrides: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()

    def save(self, path: Path) -> None:
        """So that the table can be collected without asking the same again."""
        write_text(path, json.dumps(asdict(self), indent=1))

    @classmethod
    def read(cls, path: Path) -> Asked:
        """What was asked last; the paper's own where nothing was."""
        if not path.is_file():
            return cls()
        found = json.loads(path.read_text("utf-8"))
        return cls(found["on"], tuple(found["overrides"]), tuple(found["seeds"]))


def read_tables(path: Path = DATA) -> dict[str, PaperTable]:
    """By number."""
    found = yaml.safe_load(path.read_text("utf-8"))
    return {str(number): PaperTable.model_validate(values) for number, values in found.items()}


def cells_of(table: PaperTable) -> Iterator[Cell]:
    """Row by row."""
    for row, each in table.rows.items():
        for name, columns in table.sets.items():
            recipe = columns.recipe.format(each.part or table.part)
            yield Cell(row, name, recipe, table.overrides | each.keys | columns.keys)


def trials_of(cell: Cell, asked: Asked) -> list[Trial]:
    """One a seed; none where no such recipe comes with rsft.

    Raises:
        RequestError: no such recipe as `asked.on`, or one that cannot hold the cell's method.
        RecipeError: an override that the recipe refuses.
    """
    try:
        find_recipe(cell.recipe)
    except RequestError:
        return []
    seeds: Sequence[dict[str, int]] = [{"seed": seed} for seed in asked.seeds] or [{}]
    every = [cell.keys | seed for seed in seeds]
    return [Trial({"recipe": cell.recipe} | keys, recipe_of(cell.recipe, asked, keys)) for keys in every]


def recipe_of(name: str, asked: Asked, keys: Mapping[str, Any]) -> Recipe:
    """The shipped recipe `name` with the overrides and keys, or its method on `asked.on`."""
    if not asked.on:
        changes = [*asked.overrides, *(f"{key}={show(value)}" for key, value in keys.items())]
        return load_recipe(find_recipe(name), changes)
    values = _moved(name, asked.on, asked.overrides).model_dump(exclude_unset=True)
    for key, value in keys.items():
        section, _, leaf = key.rpartition(".")
        (values[section] if section else values)[leaf] = value
    return Recipe.model_validate(values)


@cache
def _moved(name: str, on: str, overrides: tuple[str, ...]) -> Recipe:
    """The method of the recipe `name` on data, network and training of the recipe `on`.

    Raises:
        RequestError: the method has a modulator, and `on` does not say how to learn it.
    """
    paper, base = load_recipe(find_recipe(name)), load_recipe(find_recipe(on), overrides)
    if paper.meta is not None and base.meta is None:
        raise RequestError("the table needs a recipe with the section meta", on, "add the section, or name another one")
    kept = [key for key in METHOD if key in paper.peft.settings]
    kept += ["scale"] if paper.peft.settings.get("scale") == "learnable" else []
    settings = {key: value for key, value in base.peft.settings.items() if key in paper.peft.settings}
    settings |= {key: paper.peft.settings[key] for key in kept}
    method = PeftSection.model_validate({"method": paper.peft.method} | settings)
    return base.model_copy(update={"name": name, "peft": method, "meta": base.meta if paper.meta else None})
