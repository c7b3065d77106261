"""A sweep file: its keys, and all checks before any run starts."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, TypeAdapter

from rsft.errors import RequestError
from rsft.recipe.components import Section, Text
from rsft.recipe.library import find_recipe
from rsft.recipe.load import load_recipe
from rsft.recipe.schema import SECTIONS
from rsft.recipe.text import Document, parse_overrides, read_document, to_yaml
from rsft.study.file_faults import raise_faults, read_keys
from rsft.training.store_lookup import find_chip_store
from rsft.types import JsonObject

Metric = Literal[
    "val_loss",
    "val_micro",
    "val_macro",
    "val_head",
    "val_medium",
    "val_tail",
    "avg",
    "macro",
    "micro",
    "macro_f1",
    "head",
    "medium",
    "tail",
]
"""With val_: a column of metrics.csv (last epoch). Without: an accuracy on the
evaluated split."""


Values = Annotated[list[Any], Field(min_length=1)]
SpaceText = Annotated[
    dict[Literal["uniform", "log", "integer", "choice"], Values],
    Field(min_length=1, max_length=1),
]
_SPACES = TypeAdapter(SpaceText)


@dataclass(frozen=True)
class Space:
    """The values of a key that a search may choose.

    Attributes:
        kind: "uniform", "log", "integer" or "choice".
        values: the choices, or the lowest and the highest value.
    """

    kind: str
    values: list[Any]

    def value_at(self, share: float) -> Any:
        """Return the value at a position in [0, 1)."""
        if self.kind == "choice":
            return self.values[int(share * len(self.values))]
        low, high = self.values
        if self.kind == "integer":
            return low + int(share * (high - low + 1))
        value = low + share * (high - low)
        if self.kind == "log":
            value = low * math.exp(share * math.log(high / low))
        return self.round(value)

    def round(self, value: float) -> float:
        """Round a value to four significant digits, within the limits."""
        low, high = self.values
        return float(min(max(float(f"{value:.4g}"), low), high))

    def find(self, value: Any) -> list[Any]:
        """Return the value of a recipe as the search has it; nothing if it has not."""
        if self.kind == "choice":
            return [choice for choice in self.values if str(choice) == str(value)]
        low, high = self.values
        is_number = isinstance(value, int | float)
        return [value] if is_number and low <= value <= high else []


def _make_space(value: Any) -> Space:
    """Return the values of a key from the text of a sweep file, such as {log: [1, 2]}.

    Raises:
        ValueError: there is not one kind with its choices or two ascending limits.
    """
    ((kind, values),) = _SPACES.validate_python(value).items()
    if kind == "choice":
        return Space(kind, values)
    kinds = (int,) if kind == "integer" else (int, float)
    are_numbers = all(type(limit) in kinds for limit in values)
    if not are_numbers or len(values) != 2 or values[0] >= values[1]:
        raise ValueError("two ascending limits")
    if kind == "log" and values[0] <= 0:
        raise ValueError("limits above 0")
    return Space(kind, values)


SearchSpace = Annotated[
    Space, BeforeValidator(_make_space, json_schema_input_type=SpaceText)
]
Choices = (
    "{uniform: [low, high]}, {log: [low, high]}, {integer: [low, high]} or {choice:"
    " [...]}, by key"
)


class Sweep(Section):
    """Runs of one or several recipes that differ in some keys."""

    recipe: Text | Annotated[list[Text], Field(min_length=1)]
    """name or path of a recipe, or a list of them"""
    roots: dict[str, Text] = Field(
        default={}, json_schema_extra={"words": "folders by name of a recipe"}
    )
    """chip stores of recipes that are not in their data.root"""
    overrides: JsonObject = Field(
        default={}, json_schema_extra={"words": "values by key"}
    )
    """recipe keys that all runs change"""
    cases: list[JsonObject] = Field(
        default=[], json_schema_extra={"words": "a list of values by key"}
    )
    """keys that change together; each case is combined with the grid"""
    grid: dict[str, Values] = Field(
        default={}, json_schema_extra={"words": "lists of values by key"}
    )
    """every combination is run"""
    search: dict[str, SearchSpace] = Field(
        default={}, json_schema_extra={"words": Choices}
    )
    """ranges or choices of the search"""
    method: Literal["random", "tpe"] = "random"
    """random: independent draws; tpe: Optuna's tree-structured Parzen estimator"""
    scheduler: Literal["asha"] | None = None
    """asha: stop trials early whose metric falls behind (asynchronous successive
    halving); null: none"""
    grace_period: int = Field(default=1, ge=1)
    """epochs before the scheduler may stop a trial"""
    trials: int | None = Field(default=None, ge=1)
    """number of trials of the search"""
    seed: int = Field(default=0, ge=0)
    """seed of the search"""
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)] | None = (
        None
    )
    """each combination is run with each of these seeds; null: the seed of the recipe"""
    metric: Metric = "val_macro"
    """metric by which runs are ranked"""
    mode: Literal["max", "min"] = "max"
    """whether the largest or the smallest metric is best"""
    cpus: int = Field(default=1, ge=1)
    """CPU cores per run, which is its number of threads"""
    gpus: float = Field(default=0.0, ge=0)
    """GPUs per run; with 0.25, four runs share one GPU"""
    address: Text | None = None
    """address of a Ray cluster, or auto (--ray); null: this machine"""
    x: Text | None = None
    """key of the horizontal axis of the heat map; null: the last key that varies"""
    y: Text | None = None
    """key of the vertical axis of the heat map; null: the key before it"""
    measures: list[Metric] | None = Field(
        default=None, json_schema_extra={"words": "a list of measures"}
    )
    """measures of the figures, one panel each; null: the metric"""

    @property
    def recipes(self) -> list[str]:
        """Names or paths of the recipes."""
        return [self.recipe] if isinstance(self.recipe, str) else self.recipe

    @property
    def keys(self) -> list[str]:
        """Keys that differ between the runs: `recipe` first, `seed` last."""
        keys = []
        if len(self.recipes) > 1:
            keys.append("recipe")
        for case in self.cases:
            keys += [key for key in case if key not in keys]
        keys += [*self.grid, *self.search]
        if self.seeds is not None:
            keys.append("seed")
        return keys


def read_sweep(path: Path, overrides: Sequence[str] = ()) -> tuple[Sweep, Document]:
    """Read and check a sweep file.

    Args:
        path: path of the file.
        overrides: recipe keys that all runs change, in addition to those of the file,
            such as "train.epochs=3".

    Returns:
        The sweep, and the document, which knows the line of each key.

    Raises:
        RecipeError: all faults of the file at once.
        RequestError: the file is a recipe.
    """
    document = read_document(path)
    values = document.values
    if "recipe" not in values and values.keys() & set(SECTIONS):
        raise RequestError(
            "this is a recipe, not a sweep",
            path,
            f"train it: rsft finetune {path}; a sweep names its recipe in the key"
            " `recipe`",
        )
    is_readable = document.is_readable
    changes = values.setdefault("overrides", {})
    for key, value in parse_overrides(document, overrides):
        # any other value is a fault of the section itself
        if isinstance(changes, dict):
            changes[key] = value
    if not is_readable:
        raise_faults(document, "sweep")
    sweep = read_keys(Sweep, document, "a sweep", "sweep")
    for key, value, allowed in _contradictions(sweep):
        document.add_fault(key, to_yaml(value), allowed)
    raise_faults(document, "sweep")
    return sweep, document


def _contradictions(sweep: Sweep) -> Iterator[tuple[str, Any, str]]:
    """Iterate over contradicting keys, their values and what is allowed."""
    yield from _search_contradictions(sweep)
    keys = sweep.keys
    for name in sweep.roots.keys() - set(sweep.recipes):
        allowed = f"a recipe of the sweep: {', '.join(sweep.recipes)}"
        yield f"roots.{name}", sweep.roots[name], allowed
    if not keys:
        allowed = "something that varies: grid, cases, search, seeds or several recipes"
        yield "grid", None, allowed
    for axis, key in (("x", sweep.x), ("y", sweep.y)):
        if key is not None and key not in keys:
            varying = ", ".join(keys) or "none"
            yield axis, key, f"one of the keys that vary: {varying}"
    for key in dict.fromkeys(keys):
        if keys.count(key) > 1:
            section = "search" if key in sweep.search else "grid"
            allowed = "each key in one section only: cases, grid or search"
            yield f"{section}.{key}", key, allowed
        if key in sweep.overrides:
            value = sweep.overrides[key]
            yield f"overrides.{key}", value, "a key that the sweep does not vary"


def _search_contradictions(sweep: Sweep) -> Iterator[tuple[str, Any, str]]:
    if sweep.search and sweep.trials is None:
        yield "trials", None, "a whole number >= 1, because the sweep has a search"
    if sweep.trials is not None and not sweep.search:
        allowed = "nothing: without a search, the grid gives the number of runs"
        yield "trials", sweep.trials, allowed
    if sweep.method == "tpe" and len(sweep.keys) > len(sweep.search):
        allowed = (
            "random, because the sweep has a grid, cases, seeds or several recipes"
            " beside the search"
        )
        yield "method", sweep.method, allowed
    if sweep.scheduler is not None and not sweep.metric.startswith("val_"):
        allowed = "null, because the metric is only measured at the end of a run"
        yield "scheduler", sweep.scheduler, allowed


def find_stores(sweep: Sweep) -> tuple[Sweep, list[str]]:
    """Find the chip stores of recipes whose `data.root` does not exist.

    Nothing is looked up if the sweep sets this key.

    Returns:
        The sweep with their folders in `roots`, and one sentence for each of them.

    Raises:
        RequestError: no store or several stores have the name of the missing one.
        RecipeError: a recipe is not valid.
    """
    if "data.root" in sweep.overrides or "data.root" in sweep.keys:
        return sweep, []
    roots = dict(sweep.roots)
    sentences = []
    for name in sweep.recipes:
        path = find_recipe(name)
        recipe = load_recipe(path)
        if name in roots:
            continue
        root, sentence = find_chip_store(recipe.data.root, path)
        if sentence:
            roots[name] = root
            sentences.append(sentence)
    return sweep.model_copy(update={"roots": roots}), sentences
