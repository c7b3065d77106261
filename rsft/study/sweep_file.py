"""A sweep file, and its trials: the schema, and one resolved recipe per trial.

Reading reports all faults at once, before any run starts.
"""

import hashlib
import itertools
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import AfterValidator, Field, ValidationError

from rsft.errors import Fault, RecipeError, RequestError
from rsft.recipe.components import Section, Text, allowed_values
from rsft.recipe.library import find_recipe
from rsft.recipe.load import first_errors, load_recipe
from rsft.recipe.schema import SECTIONS, Recipe
from rsft.recipe.text import (
    COMMAND_LINE,
    Document,
    parse_overrides,
    read_document,
    to_yaml,
)
from rsft.training.store_lookup import find_chip_store

Metric = Literal[
    "val_loss", "val_micro", "val_macro", "val_head", "val_medium", "val_tail", "avg", "macro", "micro", "macro_f1",
    "head", "medium", "tail",
]  # fmt: skip
"""With val_: a column of metrics.csv (last epoch). Without: an accuracy on the
evaluated split."""


def _check_space(space: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """Raise an error unless a range consists of two ascending limits."""
    (kind, values), *_ = space.items()
    if kind == "choice":
        return space
    number = int if kind == "integer" else (int, float)
    numbers = len(values) == 2 and all(
        isinstance(value, number) and not isinstance(value, bool) for value in values
    )
    if not numbers or values[0] >= values[1] or (kind == "log" and values[0] <= 0):
        raise ValueError("two ascending limits")
    return space


Values = Annotated[list[Any], Field(min_length=1)]
Space = Annotated[
    dict[Literal["uniform", "log", "integer", "choice"], Values],
    Field(min_length=1, max_length=1),
    AfterValidator(_check_space),
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
    overrides: dict[str, Any] = Field(
        default={}, json_schema_extra={"words": "values by key"}
    )
    """recipe keys that all runs change"""
    cases: list[dict[str, Any]] = Field(
        default=[], json_schema_extra={"words": "a list of values by key"}
    )
    """keys that change together; each case is combined with the grid"""
    grid: dict[str, Values] = Field(
        default={}, json_schema_extra={"words": "lists of values by key"}
    )
    """every combination is run"""
    search: dict[str, Space] = Field(default={}, json_schema_extra={"words": Choices})
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
    """address of a Ray cluster; null: this machine"""
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
        if isinstance(self.recipe, str):
            return [self.recipe]
        return self.recipe

    @property
    def keys(self) -> list[str]:
        """Keys that differ between the runs, in the order of the file: `recipe` first, `seed` last."""
        cases = dict.fromkeys(key for case in self.cases for key in case)
        recipe = ["recipe"] if len(self.recipes) > 1 else []
        seed = ["seed"] if self.seeds is not None else []
        return [*recipe, *cases, *self.grid, *self.search, *seed]


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
    if "recipe" not in document.values and document.values.keys() & set(SECTIONS):
        raise RequestError(
            "this is a recipe, not a sweep",
            path,
            (
                f"train it: rsft finetune {path}; a sweep names its recipe in the key"
                " `recipe`"
            ),
        )
    is_readable = document.is_readable
    changes = document.values.setdefault("overrides", {})
    for key, value in parse_overrides(document, overrides):
        if isinstance(
            changes, dict
        ):  # any other value is a fault of the section itself
            changes[key] = value
    sweep = None
    try:
        if is_readable:
            sweep = Sweep.model_validate(document.values)
        else:
            sweep = None
    except ValidationError as error:
        schema = Sweep.model_json_schema()["properties"]
        for key, item in first_errors(error, ("grid", "search")).items():
            section, _, recipe_key = key.partition(".")
            value = document.values.get(section)
            if recipe_key and isinstance(value, dict):
                value = value.get(recipe_key)
            else:
                value = value
            unknown = f"no such key; a sweep has {', '.join(schema)}"
            if section in schema:
                allowed = allowed_values(schema[section])
            else:
                allowed = unknown
            document.add_fault(
                key, "nothing" if item["type"] == "missing" else to_yaml(value), allowed
            )
    if sweep is not None:
        for name in sweep.roots.keys() - set(sweep.recipes):
            document.add_fault(
                f"roots.{name}",
                sweep.roots[name],
                f"a recipe of the sweep: {', '.join(sweep.recipes)}",
            )
    for key, value, allowed in _contradictions(sweep) if sweep else ():
        document.add_fault(key, to_yaml(value), allowed)
    if sweep is None or document.faults:
        raise RecipeError(
            sorted(document.faults, key=lambda fault: fault.line), subject="sweep"
        )
    return sweep, document


def _contradictions(sweep: Sweep) -> Iterator[tuple[str, Any, str]]:
    """Iterate over the keys that contradict each other, with their values and what is allowed."""
    if sweep.search and sweep.trials is None:
        yield "trials", None, "a whole number >= 1, because the sweep has a search"
    if not sweep.search and sweep.trials is not None:
        yield (
            "trials",
            sweep.trials,
            "nothing: without a search, the grid gives the number of runs",
        )
    if sweep.method == "tpe" and (
        sweep.grid or sweep.cases or len(sweep.recipes) > 1 or sweep.seeds is not None
    ):
        allowed = (
            "random, because the sweep has a grid, cases, seeds or several recipes"
            " beside the search"
        )
        yield "method", sweep.method, allowed
    if sweep.scheduler is not None and not sweep.metric.startswith("val_"):
        yield (
            "scheduler",
            sweep.scheduler,
            "null, because the metric is only measured at the end of a run",
        )
    if not sweep.keys:
        yield (
            "grid",
            None,
            "something that varies: grid, cases, search, seeds or several recipes",
        )
    for axis in ("x", "y"):
        if getattr(sweep, axis) not in (None, *sweep.keys):
            allowed = f"one of the keys that vary: {', '.join(sweep.keys) or 'none'}"
            yield axis, getattr(sweep, axis), allowed
    for key in dict.fromkeys(key for key in sweep.keys if sweep.keys.count(key) > 1):
        section = "search" if key in sweep.search else "grid"
        yield (
            f"{section}.{key}",
            key,
            "each key in one section only: cases, grid or search",
        )
    for key in sweep.overrides.keys() & set(sweep.keys):
        yield (
            f"overrides.{key}",
            sweep.overrides[key],
            "a key that the sweep does not vary",
        )


KeyValues = dict[str, Any]
"""Values that a trial sets, by recipe key; `recipe` is the name of the recipe."""

MAX_TRIALS = 10_000
"""Largest number of trials of one sweep; a larger number is probably a typing error."""


@dataclass(frozen=True)
class Trial:
    """One run of a sweep.

    Attributes:
        keys: values that the sweep sets.
        recipe: the resolved recipe.
    """

    keys: KeyValues
    recipe: Recipe

    @property
    def id(self) -> str:
        """Hash of what differs from the defaults; a later version with more keys gives the same experiment this id."""
        content = json.dumps(changed_values(self.recipe), sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:12]


def changed_values(recipe: Recipe) -> KeyValues:
    """Return the values of a recipe that differ from their defaults, by section and key.

    Name and trackers are left out, as they do not change the numbers of a run. A
    section without such values is left out, unless it is None by default.
    """
    content: KeyValues = {"seed": recipe.seed} if recipe.seed else {}
    for name, section in recipe.sections():
        if section is not None and name != "track":
            defaults = {
                key: info.get_default(call_default_factory=True)
                for key, info in section.key_infos.items()
            }
            values = {key: value for key, value in section if value != defaults[key]}
            content |= (
                {name: values}
                if values or Recipe.model_fields[name].default is None
                else {}
            )
    return content


def make_trial(sweep: Sweep, keys: Mapping[str, Any]) -> Trial:
    """Make the trial of a sweep with given keys.

    Raises:
        RequestError: the recipe does not exist.
        RecipeError: a key or value is not valid.
    """
    name = str(keys.get("recipe", sweep.recipes[0]))
    if name in sweep.roots:
        root = {"data.root": sweep.roots[name]}
    else:
        root = {}
    values = (
        root
        | sweep.overrides
        | {key: value for key, value in keys.items() if key != "recipe"}
    )
    overrides = [f"{key}={to_yaml(value)}" for key, value in values.items()]
    return Trial(dict(keys), load_recipe(find_recipe(name), overrides))


def find_stores(sweep: Sweep) -> tuple[Sweep, list[str]]:
    """Find the chip stores of recipes whose `data.root` does not exist, if the sweep does not set this key.

    Returns:
        The sweep with their folders in `roots`, and one sentence for each of them.

    Raises:
        RequestError: no store or several stores have the name of the missing one.
        RecipeError: a recipe is not valid.
    """
    roots = dict(sweep.roots)
    sentences = []
    for name in () if "data.root" in (*sweep.overrides, *sweep.keys) else sweep.recipes:
        path = find_recipe(name)
        recipe = load_recipe(path)
        if name not in roots:
            root, sentence = find_chip_store(recipe.data.root, path)
            if sentence:
                roots[name] = root
                sentences.append(sentence)
    return sweep.model_copy(update={"roots": roots}), sentences


def list_trials(sweep: Sweep, document: Document) -> list[Trial]:
    """List the trials that are known in advance, without duplicates; TPE proposes its trials later.

    The values that TPE can propose are checked too, by the limits of their ranges.

    Raises:
        RequestError: a recipe does not exist.
        RecipeError: all faults of all values, with their lines in the sweep file.
    """
    combinations = list(itertools.islice(_combinations(sweep), MAX_TRIALS + 1))
    if len(combinations) > MAX_TRIALS:
        line = document.lines.get("grid", 0)
        value = f"more than {MAX_TRIALS:,} runs"
        raise RecipeError(
            [Fault(document.file, line, "grid", value, "fewer values, or a search")],
            subject="sweep",
        )
    limits: list[
        KeyValues
    ] = []  # limits and choices of the search, to check them before any run starts
    if sweep.search:
        lowest = _sample(sweep.search, itertools.repeat(0.0))
        highest = _sample(sweep.search, itertools.repeat(1 - 1e-12))
        choices = [
            (key, value)
            for key, space in sweep.search.items()
            for value in space.get("choice", ())
        ]
        limits = [lowest, highest, *(lowest | {key: value} for key, value in choices)]
    trials: dict[str, Trial] = {}
    faults: list[Fault] = []
    for number, keys in enumerate([*limits, *combinations]):
        try:
            trial = make_trial(sweep, keys)
        except RecipeError as error:
            faults += [_locate_fault(document, fault) for fault in error.faults]
            continue
        if number >= len(limits):
            trials.setdefault(trial.id, trial)
    if faults:
        raise RecipeError(
            sorted(dict.fromkeys(faults), key=lambda fault: fault.line), subject="sweep"
        )
    return list(trials.values())


def is_in_search_space(sweep: Sweep, keys: Mapping[str, Any]) -> bool:
    """Return True if keys of a trial could have been proposed by the search of a sweep."""
    spaces = {key: next(iter(space.items())) for key, space in sweep.search.items()}
    return keys.keys() == spaces.keys() and all(
        keys[key] in values if kind == "choice" else values[0] <= keys[key] <= values[1]
        for key, (kind, values) in spaces.items()
    )


def round_to_four_digits(value: float, low: float, high: float) -> float:
    """Round a value to four significant digits, within the limits."""
    return min(max(float(f"{value:.4g}"), low), high)


def _sample(spaces: Mapping[str, Space], shares: Iterable[float]) -> KeyValues:
    """Map one number in [0, 1) per key to a value of the key."""
    keys: KeyValues = {}
    for (key, space), share in zip(spaces.items(), shares, strict=False):
        (kind, values), *_ = space.items()
        if kind == "choice":
            keys[key] = values[int(share * len(values))]
        elif kind == "integer":
            keys[key] = values[0] + int(share * (values[1] - values[0] + 1))
        else:
            low, high = values
            if kind == "log":
                value = low * math.exp(share * math.log(high / low))
            else:
                value = low + share * (high - low)
            keys[key] = round_to_four_digits(value, low, high)
    return keys


def _locate_fault(document: Document, fault: Fault) -> Fault:
    """Return a fault of a recipe with the line of its value in the sweep file; unchanged if the recipe file has it."""
    value, is_override, _ = fault.value.rpartition(
        " (command line)"
    )  # the sweep sets values as overrides
    if not is_override:
        return fault
    keys = [f"{section}.{fault.key}" for section in ("grid", "search", "overrides")]
    if any(fault.key in case for case in document.values.get("cases", ())):
        keys.append("cases")
    line = next((document.lines[key] for key in keys if key in document.lines), 0)
    return Fault(
        document.file if line else COMMAND_LINE, line, fault.key, value, fault.allowed
    )


def _combinations(sweep: Sweep) -> Iterator[KeyValues]:
    """Iterate over the keys of all trials that are known in advance."""
    if len(sweep.recipes) > 1:
        recipes = [{"recipe": name} for name in sweep.recipes]
    else:
        recipes = [{}]
    grid = [
        dict(zip(sweep.grid, values, strict=True))
        for values in itertools.product(*sweep.grid.values())
    ]
    if sweep.seeds is not None:
        seeds = [{"seed": seed} for seed in sweep.seeds]
    else:
        seeds = [{}]
    draws: list[KeyValues] = [] if sweep.method == "tpe" else [{}]
    if (
        sweep.search and sweep.method == "random"
    ):  # draw n depends on (seed, n), so more trials keep the first ones
        generators = (
            np.random.default_rng((sweep.seed, number))
            for number in range(sweep.trials or 0)
        )
        draws = [
            _sample(sweep.search, generator.random(len(sweep.search)).tolist())
            for generator in generators
        ]
    factors: Sequence[list[KeyValues]] = (
        recipes,
        sweep.cases or [{}],
        grid,
        draws,
        seeds,
    )
    for combination in itertools.product(*factors):
        yield {key: value for values in combination for key, value in values.items()}
