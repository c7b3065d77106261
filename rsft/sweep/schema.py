"""What a sweep file may hold, and how it is read: typed, with all faults at once, before anything runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, Field, ValidationError

from rsft.errors import Fault, RecipeError
from rsft.recipe.fields import Section, Text
from rsft.recipe.schema_text import words_of
from rsft.recipe.text import Document, parse_value, read_document, show

Metric = Literal[
    "val_loss", "val_micro", "val_macro", "val_head", "val_medium", "val_tail", "avg", "macro", "micro", "macro_f1",
    "head", "medium", "tail",
]  # fmt: skip
"""With val_ a column of metrics.csv, of the last epoch; without it of the evaluated split."""


def _space(space: dict[str, list[Any]]) -> dict[str, list[Any]]:
    (kind, values), *_ = space.items()
    if kind == "choice":
        return space
    number = int if kind == "integer" else (int, float)
    numbers = len(values) == 2 and all(isinstance(value, number) and not isinstance(value, bool) for value in values)
    if not numbers or values[0] >= values[1] or (kind == "log" and values[0] <= 0):
        raise ValueError("two rising limits")
    return space


def _described(words: str, description: str, **limits: Any) -> Any:
    return Field(json_schema_extra={"words": words}, description=description, **limits)


Values = Annotated[list[Any], Field(min_length=1)]
Space = Annotated[
    dict[Literal["uniform", "log", "integer", "choice"], Values],
    Field(min_length=1, max_length=1),
    AfterValidator(_space),
]
Choices = "{uniform: [low, high]}, {log: [low, high]}, {integer: [low, high]} or {choice: [...]}, by key"


class Sweep(Section):
    """Runs of one recipe, or of several, that differ in some keys."""

    recipe: Text | Annotated[list[Text], Field(min_length=1)] = Field(
        description="recipe by name or path; of a list each is run"
    )
    overrides: dict[str, Any] = _described("values by key", "keys that all runs change", default={})
    cases: list[dict[str, Any]] = _described(
        "a list of values by key", "keys that change together: each case is crossed with the grid", default=[]
    )
    grid: dict[str, Values] = _described("lists of values by key", "every combination is run", default={})
    search: dict[str, Space] = _described(Choices, "where the method draws from", default={})
    method: Literal["random", "tpe"] = Field(
        default="random", description="independent draws, or Optuna's tree-structured Parzen estimator"
    )
    trials: int | None = Field(default=None, ge=1, description="draws of the search")
    seed: int = Field(default=0, ge=0, description="of the search")
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)] | None = Field(
        default=None, description="seeds of which each combination is run with every one; null takes the recipe's"
    )
    metric: Metric = Field(default="val_macro", description="what is best in a run")
    mode: Literal["max", "min"] = Field(default="max", description="whether the largest or the smallest is best")
    cpus: int = Field(default=1, ge=1, description="cores of a run, which are its threads")
    gpus: float = Field(default=0.0, ge=0, description="GPUs of a run: at 0.25 four of them share one")
    address: Text | None = Field(default=None, description="of a Ray cluster; null takes this machine")
    x: Text | None = Field(default=None, description="key across the heat map; null takes the last that varies")
    y: Text | None = Field(default=None, description="key down the heat map; null takes the one before it")
    measures: list[Metric] | None = _described(
        "a list of measures", "what is drawn, a panel each; null draws the metric", default=None
    )

    @property
    def recipes(self) -> list[str]:
        """By name or path."""
        return [self.recipe] if isinstance(self.recipe, str) else self.recipe

    @property
    def keys(self) -> list[str]:
        """What differs between the runs, in the order of the file, `recipe` first and `seed` last."""
        cases = dict.fromkeys(key for case in self.cases for key in case)
        recipe = ["recipe"] if len(self.recipes) > 1 else []
        seed = ["seed"] if self.seeds is not None else []
        return [*recipe, *cases, *self.grid, *self.search, *seed]


def read_sweep(path: Path, overrides: Sequence[str] = ()) -> tuple[Sweep, Document]:
    """The sweep, and the file as written, which knows the line of each key.

    Args:
        overrides: recipe keys that all runs change, beside those of the file: "train.epochs=3".

    Raises:
        RecipeError: every fault of the file at once.
    """
    document = read_document(path)
    readable = document.is_readable
    _override(document, overrides)
    sweep = _validate(document) if readable else None
    if sweep is not None:
        _check(sweep, document)
    if sweep is None or document.faults:
        raise RecipeError(sorted(document.faults, key=lambda fault: fault.line), of="sweep")
    return sweep, document


def _override(document: Document, overrides: Sequence[str]) -> None:
    """What is no value is the recipe's fault, found with the others."""
    values = document.values.setdefault("overrides", {})
    for text in overrides:
        key, equals, raw = map(str.strip, text.partition("="))
        try:
            if equals and isinstance(values, dict):
                values[key] = parse_value(raw)
                continue
            words = "no value"
        except yaml.YAMLError:
            words = f"{raw}, which is no YAML"
        document.faults.append(Fault("command line", 0, text, words, "section.key=value"))


def _validate(document: Document) -> Sweep | None:
    try:
        return Sweep.model_validate(document.values)
    except ValidationError as error:
        schema = Sweep.model_json_schema()["properties"]
        first: dict[str, Any] = {}
        for item in error.errors(include_url=False):
            first.setdefault(".".join(map(str, item["loc"][: 2 if item["loc"][0] in ("grid", "search") else 1])), item)
    for key, item in first.items():
        top = key.partition(".")[0]
        known = words_of(schema[top]) if top in schema else f"no such key; a sweep has {', '.join(schema)}"
        found = "nothing" if item["type"] == "missing" else show(document_value(document, key))
        document.add_fault(line_of(document, key), key, found, known)
    return None


def _check(sweep: Sweep, document: Document) -> None:
    """What the keys ask of each other."""

    def fault(key: str, found: Any, words: str) -> None:
        document.add_fault(line_of(document, key), key, show(found), words)

    if sweep.search and sweep.trials is None:
        fault("trials", None, "a whole number >= 1, where there is something to search")
    if not sweep.search and sweep.trials is not None:
        fault("trials", sweep.trials, "nothing: without a search the grid says how many runs there are")
    if sweep.method == "tpe" and (sweep.grid or sweep.cases or len(sweep.recipes) > 1 or sweep.seeds is not None):
        fault("method", sweep.method, "random where there is a grid, cases, seeds or several recipes beside the search")
    if not sweep.keys:
        fault("grid", None, "something that varies: grid, cases, search, seeds or several recipes")
    _check_keys(sweep, fault)


def _check_keys(sweep: Sweep, fault: Callable[[str, Any, str], None]) -> None:
    """A key has one place, and an axis is a key that varies."""
    for axis in ("x", "y"):
        key = getattr(sweep, axis)
        if key is not None and key not in sweep.keys:
            fault(axis, key, f"one of the keys that vary: {', '.join(sweep.keys) or 'none does'}")
    for key in dict.fromkeys(key for key in sweep.keys if sweep.keys.count(key) > 1):
        fault(f"search.{key}" if key in sweep.search else f"grid.{key}", key, "a key once, in cases, grid or search")
    for key in sweep.overrides:
        if key in sweep.keys:
            fault(f"overrides.{key}", sweep.overrides[key], "a key that the sweep does not vary")


def document_value(document: Document, key: str) -> Any:
    """What stands at a key such as "grid.peft.rank"."""
    top, _, rest = key.partition(".")
    value = document.values.get(top)
    return value.get(rest) if rest and isinstance(value, dict) else value


def line_of(document: Document, key: str) -> int:
    """Where a key stands, or the section that it would stand in; 0 where neither does."""
    return document.lines.get(key, document.lines.get(key.partition(".")[0], 0))


def fault_in(document: Document, fault: Fault) -> Fault:
    """A fault of the recipe that a sweep's value brought about, at the place of that value."""
    found, given, _ = fault.found.rpartition(" (command line)")  # to a recipe, a sweep's values are overrides
    if not given:
        return fault  # of the recipe's own file
    places = [f"{section}.{fault.key}" for section in ("grid", "search", "overrides")]
    if any(fault.key in case for case in document.values.get("cases", ())):
        places.append("cases")
    line = next((document.lines[place] for place in places if place in document.lines), 0)
    return Fault(document.file if line else "command line", line, fault.key, found, fault.allowed)
