"""Read a study: rows of runs on one data set that are compared over the same seeds.

A study is a YAML file. `tools/reproduction/studies/mstar_lt.yaml` is an example with
all keys.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

import numpy as np
from pydantic import BeforeValidator, Field, ValidationError, model_validator

from rsft.errors import Fault, RecipeError, RequestError
from rsft.recipe.components import Section, Text
from rsft.recipe.library import find_recipe
from rsft.recipe.load import load_recipe
from rsft.recipe.schema import Recipe
from rsft.recipe.text import Document, read_document, to_yaml

_FACTOR = re.compile(r"x([0-9.]+)")
_RANGE = re.compile(r"(\d+)(?:-(\d+))?")


Method = Literal["finetune", "auto", "hugging-face", "knn", "linear-probe", "ship-size"]
"""How a run predicts the held-out chips: by the recipe, by the candidate that `method:
auto` chooses for its data, or by one of the alternatives of
`tools.reproduction.quality_methods` with its encoder and data."""

METHOD_KEY = "study_method"
"""Key of the identity of a run that does not fine-tune by its recipe."""


class Configuration(NamedTuple):
    """The settings of a run, without its seed.

    Attributes:
        name: short text for file names and messages.
        overrides: KEY=VALUE overrides of the recipe.
        identity: the resolved recipe. Two configurations with the same identity share
            their runs.
        recipe_path: path of the recipe.
        method: what is done with the recipe.
    """

    name: str
    overrides: tuple[str, ...]
    identity: str
    recipe_path: Path
    method: Method = "finetune"


def parse_seeds(value: object) -> object:
    """Return the seeds of a text such as "0-19" or "0,3,5-7"; a value of another type is returned as it is.

    Args:
        value: the text.

    Raises:
        ValueError: the text is not such a list.
    """
    if not isinstance(value, str | int):
        return value
    ranges = [_RANGE.fullmatch(part.strip()) for part in str(value).split(",")]
    limits = [(int(match[1]), int(match[2] or match[1])) for match in ranges if match]
    if len(limits) < len(ranges) or any(first > last for first, last in limits):
        raise ValueError("write seeds such as 0-19 or 0,3,5")
    return list(
        dict.fromkeys(seed for first, last in limits for seed in range(first, last + 1))
    )


class RandomScales(Section):
    """Draws of one scale per site, log-uniform from `low` to `high`."""

    draws: int = Field(ge=1)
    low: float = Field(gt=0)
    high: float = Field(gt=0)
    positions: list[Text] = Field(min_length=1)


class Row(Section):
    """A row of a table: one configuration, or several of which each seed takes the best.

    Attributes:
        title: first cell of the row.
        recipe: name or path of the recipe, if it is not that of the study.
        method: what is done with the recipe.
        overrides: names of settings of the study, and KEY=VALUE overrides; a later one
            wins.
        base: whether the other rows of the group are compared with this one.
        grid: values by recipe key. Every combination is a configuration. "x0.5" is half
            of the value that the recipe and the overrides give.
        without: combinations of grid values to leave out, each in the order of the keys
            of `grid`.
        random_scales: draws of the scales; every draw is a configuration.
        tables: "accuracy" for the table of accuracies, "spread" for accuracy at each
            grid value.
    """

    title: Text
    recipe: Text | None = None
    method: Method = "finetune"
    overrides: list[Text] = Field(default=[])
    base: bool = False
    grid: dict[str, Annotated[list[Any], Field(min_length=1)]] = Field(default={})
    without: list[list[Any]] = Field(default=[])
    random_scales: RandomScales | None = None
    tables: list[Literal["accuracy", "spread"]] = Field(
        default=["accuracy"], min_length=1
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.grid and self.random_scales:
            raise ValueError(f"row {self.title!r}: use either grid or random_scales")
        if "spread" in self.tables and len(self.grid) not in (1, 2):
            raise ValueError(
                f"row {self.title!r}: a spread needs a grid with one or two keys"
            )
        combinations = list(itertools.product(*self.grid.values()))
        unknown = [point for point in self.without if tuple(point) not in combinations]
        if unknown:
            raise ValueError(
                f"row {self.title!r}: the grid has no combination {unknown[0]}"
            )
        if not self.grid_points():
            raise ValueError(
                f"row {self.title!r}: `without` leaves nothing of the grid"
            )
        return self

    def grid_points(self) -> list[tuple[Any, ...]]:
        """Return the combinations of grid values, in the order of the configurations."""
        combinations = itertools.product(*self.grid.values())
        return [point for point in combinations if list(point) not in self.without]


class Study(Section):
    """Rows by heading, and what all runs have in common.

    Attributes:
        title: heading of the report.
        recipe: name or path of the recipe.
        overrides: KEY=VALUE overrides of every run; a row may replace them. "{seed}" in
            a value is the seed.
        seeds: seeds of every row, as a list or as a text such as 0-19.
        blocks: number of blocks of the backbone; rows with random scales need it.
        settings: lists of KEY=VALUE overrides by name, for use in rows.
        groups: rows by heading.
    """

    title: Text
    recipe: Text
    overrides: list[Text] = Field(default=[])
    seeds: Annotated[
        list[Annotated[int, Field(ge=0)]],
        BeforeValidator(parse_seeds),
        Field(min_length=1),
    ]
    blocks: int | None = Field(default=None, ge=1)
    settings: dict[str, list[Text]] = Field(default={})
    groups: dict[str, Annotated[list[Row], Field(min_length=1)]] = Field(min_length=1)

    @model_validator(mode="after")
    def _check(self) -> Self:
        titles = [row.title for row in self.rows if "accuracy" in row.tables]
        repeated = {title for title in titles if titles.count(title) > 1}
        if repeated:
            raise ValueError(
                f"several rows have the title {', '.join(sorted(repeated))}"
            )
        for heading, rows in self.groups.items():
            bases = [row for row in rows if row.base]
            if len(bases) > 1 or any("accuracy" not in row.tables for row in bases):
                raise ValueError(
                    f"group {heading}: at most one row is the base, and it has the"
                    " table accuracy"
                )
        needs_base = any("accuracy" in row.tables for row in self.rows)
        if needs_base and not any(row.base for row in self.rows):
            raise ValueError("no row is the base: add `base: true` to a row")
        if self.blocks is None and any(row.random_scales for row in self.rows):
            raise ValueError(
                "random_scales needs `blocks`, the number of blocks of the backbone"
            )
        return self

    @property
    def rows(self) -> list[Row]:
        """All rows, in the order of the file."""
        return [row for rows in self.groups.values() for row in rows]

    def recipe_path(self, row: Row) -> Path:
        """Return the path of the recipe of a row.

        Args:
            row: a row of the study.
        """
        return find_recipe(row.recipe or self.recipe)

    def base_row(self, heading: str) -> Row:
        """Return the row with which a group is compared: its own base, or else the first base of the study.

        Args:
            heading: heading of the group.
        """
        return next(row for row in [*self.groups[heading], *self.rows] if row.base)

    def configurations(self, row: Row, seed: int) -> list[Configuration]:
        """Return the configurations of a row: the grid points or draws, or a single one.

        Args:
            row: a row of the study.
            seed: seed of the runs; random scales depend on it.

        Returns:
            At least one configuration.

        Raises:
            RequestError: an override names no settings of the study.
            RecipeError: an override is not valid.
        """
        texts = (
            *self.overrides,
            *(
                text
                for override in row.overrides
                for text in self._expand(override, row)
            ),
        )
        shared = tuple(text.replace("{seed}", str(seed)) for text in texts)
        label = " ".join([*filter(None, [row.recipe]), *row.overrides])
        path = self.recipe_path(row)
        if row.random_scales:
            draws = range(row.random_scales.draws)
            return [
                self._draw(row.random_scales, seed, draw, label, shared, path)
                for draw in draws
            ]
        configurations = []
        for values in row.grid_points():
            pairs = list(zip(row.grid, values, strict=True))
            overrides = (
                *shared,
                *(
                    f"{key}={self._resolve(key, value, shared, path)}"
                    for key, value in pairs
                ),
            )
            name = " ".join([label, *(f"{key}={value}" for key, value in pairs)])
            recipe = _load(path, overrides)
            configurations.append(
                _configuration(name, overrides, recipe, path, row.method)
            )
        return configurations

    def _expand(self, override: str, row: Row) -> Sequence[str]:
        if "=" in override:
            return [override]
        if override not in self.settings:
            raise RequestError(
                f"the study has no settings {override!r}",
                f"row {row.title!r}",
                (
                    "use KEY=VALUE or one of"
                    f" {', '.join(self.settings) or 'the settings, which are empty'}"
                ),
            )
        return self.settings[override]

    def _resolve(
        self, key: str, value: Any, overrides: tuple[str, ...], path: Path
    ) -> str:
        """Return a grid value as YAML; "x2" becomes twice the value of the recipe."""
        if isinstance(value, str):
            match = _FACTOR.fullmatch(value)
        else:
            match = None
        if match is None:
            return to_yaml(value)
        number = _load(path, overrides).flatten().get(key)
        if not isinstance(number, int | float):
            raise RequestError(
                f"{value} times no number",
                f"grid key {key}",
                "set the key in the recipe or overrides",
            )
        return to_yaml(float(f"{float(match[1]) * number:.6g}"))

    def _draw(
        self,
        scales: RandomScales,
        seed: int,
        draw: int,
        label: str,
        shared: tuple[str, ...],
        path: Path,
    ) -> Configuration:
        sites = [
            f"blocks.{block}.{position}"
            for block in range(self.blocks or 0)
            for position in scales.positions
        ]
        values = random_scales(sites, (scales.low, scales.high), seed, draw)
        recipe = _load(path, shared)
        # not loaded again: that takes 0.2 s for each draw and seed
        peft = recipe.peft.model_copy(update={"scale": values})
        recipe = recipe.model_copy(update={"peft": peft})
        return _configuration(
            f"{label} draw={draw} of {seed}",
            (*shared, f"peft.scale={to_yaml(values)}"),
            recipe,
            path,
        )


def _configuration(
    label: str,
    overrides: tuple[str, ...],
    recipe: Recipe,
    path: Path,
    method: Method = "finetune",
) -> Configuration:
    identity = recipe_identity(recipe.model_dump(mode="json"), method)
    label = label if method == "finetune" else f"{method} {label}"
    digest = hashlib.sha256(identity.encode()).hexdigest()[:8]
    readable = re.sub(r"[^\w.=+-]+", " ", label).strip()[:100]
    return Configuration(
        f"{readable} {digest}".strip(), overrides, identity, path, method
    )


def random_scales(
    sites: Sequence[str], limits: tuple[float, float], seed: int, draw: int
) -> dict[str, float]:
    """Return one scale per site, log-uniform between two limits and rounded to four digits.

    Args:
        sites: names of the sites, such as "blocks.0.q".
        limits: smallest and largest scale.
        seed: seed of the run.
        draw: number of the draw, from 0.

    Returns:
        Scale by site.
    """
    rng = np.random.default_rng((seed, draw))
    low, high = np.log(limits)
    values = np.exp(rng.uniform(low, high, len(sites)))
    return {
        site: round(float(value), 4) for site, value in zip(sites, values, strict=True)
    }


def recipe_identity(recipe: Mapping[str, Any], method: str = "finetune") -> str:
    """Return everything that distinguishes a run from others of the same seed, as JSON.

    The baselines beside a run and the processes that load its chips do not change it,
    so `evaluate.baselines` and `data.workers` are left out.

    Args:
        recipe: the values of a resolved recipe.
        method: what is done with it.
    """
    values = {
        key: value for key, value in recipe.items() if key not in ("seed", "name")
    }
    for section, left_out in (("evaluate", "baselines"), ("data", "workers")):
        keys = recipe[section].items()
        values[section] = {key: value for key, value in keys if key != left_out}
    if method != "finetune":
        values[METHOD_KEY] = method
    return json.dumps(values, sort_keys=True)


@cache
def _load(recipe_path: Path, overrides: tuple[str, ...]) -> Recipe:
    return load_recipe(recipe_path, overrides)


def read_study(
    path: Path, overrides: Sequence[str] = (), seeds: str | None = None
) -> Study:
    """Read a study and check all its configurations.

    The key `include` names another study, relative to this one. Keys of this file
    replace those of the included file; `settings` replace each other by name.

    Args:
        path: path of the YAML file.
        overrides: KEY=VALUE overrides of every run, which win over `overrides` of the
            study.
        seeds: seeds in place of those of the study, such as "0-19".

    Returns:
        The study.

    Raises:
        RequestError: a file does not exist, or a row names settings that do not exist.
        RecipeError: the study or an override of the recipe is not valid.
    """
    document = _read_with_includes(path)
    values = document.values
    values |= {"seeds": seeds} if seeds is not None else {}
    try:
        study = Study.model_validate(values)
    except ValidationError as error:
        raise RecipeError(list(_faults(document, error)), "study") from None
    study = study.model_copy(update={"overrides": [*study.overrides, *overrides]})
    for row in study.rows:
        study.configurations(row, study.seeds[0])
    return study


def _read_with_includes(path: Path, parents: tuple[Path, ...] = ()) -> Document:
    if not path.is_file() or path.resolve() in parents:
        raise RequestError(
            "a study includes itself" if path.is_file() else "no such study",
            path,
            "name another file",
        )
    document = read_document(path)
    if document.faults:
        raise RecipeError(document.faults, "study")
    values = document.values
    include = values.pop("include", None)
    if include is not None:
        earlier = _read_with_includes(
            path.parent / str(include), (*parents, path.resolve())
        ).values
        settings = {**(earlier.get("settings") or {}), **(values.get("settings") or {})}
        document.values = {**earlier, **values, "settings": settings}
    return document


def _faults(document: Document, error: ValidationError) -> Iterator[Fault]:
    for item in error.errors(include_url=False):
        keys = [str(key) for key in item["loc"]]
        line = document.lines.get(
            ".".join(keys[:2]), document.lines.get(keys[0], 0) if keys else 0
        )
        is_short = item["type"] != "missing" and not isinstance(
            item["input"], dict | list | Section
        )
        if is_short:
            value = to_yaml(item["input"])
        else:
            if item["type"] == "missing":
                value = "nothing"
            else:
                value = "these values"
        yield Fault(document.file, line, ".".join(keys) or "study", value, item["msg"])
