"""Schema of a sweep file; reading reports all faults at once, before any run starts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, Field, ValidationError

from rsft.errors import Fault, RecipeError
from rsft.recipe.fields import Section, Text
from rsft.recipe.renames import current_key, rename_in_place
from rsft.recipe.schema_text import allowed_values
from rsft.recipe.text import Document, parse_value, read_document, to_yaml

Metric = Literal[
    "val_loss", "val_micro", "val_macro", "val_head", "val_medium", "val_tail", "avg", "macro", "micro", "macro_f1",
    "head", "medium", "tail",
]  # fmt: skip
"""With val_: a column of metrics.csv (last epoch). Without: an accuracy on the evaluated split."""


def _check_space(space: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """Raise an error unless a range consists of two ascending limits."""
    (kind, values), *_ = space.items()
    if kind == "choice":
        return space
    number = int if kind == "integer" else (int, float)
    numbers = len(values) == 2 and all(isinstance(value, number) and not isinstance(value, bool) for value in values)
    if not numbers or values[0] >= values[1] or (kind == "log" and values[0] <= 0):
        raise ValueError("two ascending limits")
    return space


def _field(words: str, description: str, **limits: Any) -> Any:
    return Field(json_schema_extra={"words": words}, description=description, **limits)


Values = Annotated[list[Any], Field(min_length=1)]
Space = Annotated[
    dict[Literal["uniform", "log", "integer", "choice"], Values],
    Field(min_length=1, max_length=1),
    AfterValidator(_check_space),
]
Choices = "{uniform: [low, high]}, {log: [low, high]}, {integer: [low, high]} or {choice: [...]}, by key"


class Sweep(Section):
    """Runs of one or several recipes that differ in some keys."""

    recipe: Text | Annotated[list[Text], Field(min_length=1)] = Field(
        description="name or path of a recipe, or a list of them"
    )
    overrides: dict[str, Any] = _field("values by key", "recipe keys that all runs change", default={})
    cases: list[dict[str, Any]] = _field(
        "a list of values by key", "keys that change together; each case is combined with the grid", default=[]
    )
    grid: dict[str, Values] = _field("lists of values by key", "every combination is run", default={})
    search: dict[str, Space] = _field(Choices, "ranges or choices of the search", default={})
    method: Literal["random", "tpe"] = Field(
        default="random", description="random: independent draws; tpe: Optuna's tree-structured Parzen estimator"
    )
    trials: int | None = Field(default=None, ge=1, description="number of trials of the search")
    seed: int = Field(default=0, ge=0, description="seed of the search")
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)] | None = Field(
        default=None, description="each combination is run with each of these seeds; null: the seed of the recipe"
    )
    metric: Metric = Field(default="val_macro", description="metric by which runs are ranked")
    mode: Literal["max", "min"] = Field(default="max", description="whether the largest or the smallest metric is best")
    cpus: int = Field(default=1, ge=1, description="CPU cores per run, which is its number of threads")
    gpus: float = Field(default=0.0, ge=0, description="GPUs per run; with 0.25, four runs share one GPU")
    address: Text | None = Field(default=None, description="address of a Ray cluster; null: this machine")
    x: Text | None = Field(
        default=None, description="key of the horizontal axis of the heat map; null: the last key that varies"
    )
    y: Text | None = Field(
        default=None, description="key of the vertical axis of the heat map; null: the key before it"
    )
    measures: list[Metric] | None = _field(
        "a list of measures", "measures of the figures, one panel each; null: the metric", default=None
    )

    @property
    def recipes(self) -> list[str]:
        """Names or paths of the recipes."""
        return [self.recipe] if isinstance(self.recipe, str) else self.recipe

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
        overrides: recipe keys that all runs change, in addition to those of the file, such as "train.epochs=3".

    Returns:
        The sweep, and the document, which knows the line of each key.

    Raises:
        RecipeError: all faults of the file at once.
    """
    document = read_document(path)
    readable = document.is_readable
    _override(document, overrides)
    _rename_old_keys(document)
    sweep = _validate(document) if readable else None
    if sweep is not None:
        _check(sweep, document)
    if sweep is None or document.faults:
        raise RecipeError(sorted(document.faults, key=lambda fault: fault.line), subject="sweep")
    return sweep, document


def _override(document: Document, overrides: Sequence[str]) -> None:
    """Add overrides of the command line to the document, and report those without a value."""
    values = document.values.setdefault("overrides", {})
    for text in overrides:
        key, equals, raw = map(str.strip, text.partition("="))
        try:
            if equals and isinstance(values, dict):
                values[key] = parse_value(raw)
                continue
            fault_value = "no value"
        except yaml.YAMLError:
            fault_value = f"{raw}, which is not valid YAML"
        document.faults.append(Fault("command line", 0, text, fault_value, "section.key=value"))


def _rename_old_keys(document: Document) -> None:
    """Rename recipe keys of earlier versions to their current names."""
    values = document.values
    for section in ("overrides", "grid", "search"):
        if isinstance(values.get(section), dict):
            values[section] = rename_in_place(document, values[section], "", f"{section}.")
    if isinstance(values.get("cases"), list):
        values["cases"] = [
            rename_in_place(document, case, "", "cases.") if isinstance(case, dict) else case
            for case in values["cases"]
        ]
    for axis in ("x", "y"):
        if isinstance(values.get(axis), str):
            values[axis] = current_key(values[axis])


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
        allowed = allowed_values(schema[top]) if top in schema else f"no such key; a sweep has {', '.join(schema)}"
        value = "nothing" if item["type"] == "missing" else to_yaml(document_value(document, key))
        document.add_fault(line_of(document, key), key, value, allowed)
    return None


def _check(sweep: Sweep, document: Document) -> None:
    """Report keys that contradict each other."""

    def fault(key: str, value: Any, allowed: str) -> None:
        document.add_fault(line_of(document, key), key, to_yaml(value), allowed)

    if sweep.search and sweep.trials is None:
        fault("trials", None, "a whole number >= 1, because the sweep has a search")
    if not sweep.search and sweep.trials is not None:
        fault("trials", sweep.trials, "nothing: without a search, the grid gives the number of runs")
    if sweep.method == "tpe" and (sweep.grid or sweep.cases or len(sweep.recipes) > 1 or sweep.seeds is not None):
        fault(
            "method",
            sweep.method,
            "random, because the sweep has a grid, cases, seeds or several recipes beside the search",
        )
    if not sweep.keys:
        fault("grid", None, "something that varies: grid, cases, search, seeds or several recipes")
    _check_keys(sweep, fault)


def _check_keys(sweep: Sweep, fault: Callable[[str, Any, str], None]) -> None:
    """Report axes that do not vary, and keys in more than one section."""
    for axis in ("x", "y"):
        key = getattr(sweep, axis)
        if key is not None and key not in sweep.keys:
            fault(axis, key, f"one of the keys that vary: {', '.join(sweep.keys) or 'none'}")
    for key in dict.fromkeys(key for key in sweep.keys if sweep.keys.count(key) > 1):
        fault(
            f"search.{key}" if key in sweep.search else f"grid.{key}",
            key,
            "each key in one section only: cases, grid or search",
        )
    for key in sweep.overrides:
        if key in sweep.keys:
            fault(f"overrides.{key}", sweep.overrides[key], "a key that the sweep does not vary")


def document_value(document: Document, key: str) -> Any:
    """Return the value at a key such as "grid.peft.rank".

    Args:
        document: the sweep file.
        key: section, or section and recipe key.

    Returns:
        The value; None if the key is missing.
    """
    section, _, recipe_key = key.partition(".")
    value = document.values.get(section)
    return value.get(recipe_key) if recipe_key and isinstance(value, dict) else value


def line_of(document: Document, key: str) -> int:
    """Return the line of a key.

    Args:
        document: the sweep file.
        key: section, or section and recipe key.

    Returns:
        Line from 1; that of the section if the key is missing; 0 if both are missing.
    """
    return document.lines.get(key, document.lines.get(key.partition(".")[0], 0))


def locate_fault(document: Document, fault: Fault) -> Fault:
    """Locate a fault of a recipe in the sweep file.

    Args:
        document: the sweep file.
        fault: fault of a recipe with the values of the sweep.

    Returns:
        The fault with the line of the value in the sweep file, or the same fault if the recipe file has it.
    """
    value, is_override, _ = fault.value.rpartition(" (command line)")  # the sweep sets values as overrides
    if not is_override:
        return fault
    keys = [f"{section}.{fault.key}" for section in ("grid", "search", "overrides")]
    if any(fault.key in case for case in document.values.get("cases", ())):
        keys.append("cases")
    line = next((document.lines[key] for key in keys if key in document.lines), 0)
    return Fault(document.file if line else "command line", line, fault.key, value, fault.allowed)
