"""The trials of a sweep: which runs there are, each with the recipe that it resolves to."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rsft.errors import Fault, RecipeError
from rsft.recipe.library import find_recipe
from rsft.recipe.load import load_recipe
from rsft.recipe.schema import Recipe
from rsft.recipe.text import Document, show
from rsft.sweep.schema import Space, Sweep, fault_in

Keys = dict[str, Any]


@dataclass(frozen=True)
class Trial:
    """One run.

    Attributes:
        keys: what the sweep gives it: `recipe` by name, and keys of the recipe.
        recipe: as resolved.
    """

    keys: Keys
    recipe: Recipe

    @property
    def id(self) -> str:
        """A hash of the resolved recipe, but for its name and trackers: the same experiment has the same one."""
        content = self.recipe.model_dump(exclude={"name", "track"})
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def make_trial(sweep: Sweep, keys: Mapping[str, Any]) -> Trial:
    """The trial of some keys.

    Raises:
        RequestError: no such recipe.
        RecipeError: what is wrong with the keys.
    """
    name = str(keys.get("recipe", sweep.recipes[0]))
    values = sweep.overrides | {key: value for key, value in keys.items() if key != "recipe"}
    return Trial(dict(keys), load_recipe(find_recipe(name), [f"{key}={show(value)}" for key, value in values.items()]))


def list_trials(sweep: Sweep, document: Document) -> list[Trial]:
    """Every trial that is known beforehand: all but those that TPE will propose.

    What TPE may propose is checked too, by the ends of its ranges.

    Raises:
        RequestError: no such recipe.
        RecipeError: every fault that any value of the sweep makes, at its place in the sweep's file.
    """
    combinations = list(itertools.islice(_combinations(sweep), MOST + 1))
    if len(combinations) > MOST:
        found, words = f"more than {MOST:,} runs", "fewer values, or a search"
        raise RecipeError([Fault(document.file, document.lines.get("grid", 0), "grid", found, words)], of="sweep")
    trials: dict[str, Trial] = {}
    faults: list[Fault] = []
    for number, keys in enumerate([*_ends(sweep), *combinations]):
        try:
            trial = make_trial(sweep, keys)
        except RecipeError as error:
            faults += [fault_in(document, fault) for fault in error.faults]
            continue
        if number >= len(_ends(sweep)):
            trials.setdefault(trial.id, trial)
    if faults:
        raise RecipeError(sorted(dict.fromkeys(faults), key=lambda fault: fault.line), of="sweep")
    return list(trials.values())


MOST = 10_000
"""Runs of one sweep; more are a slip of the pen."""


def draw(spaces: Mapping[str, Space], shares: Iterable[float]) -> Keys:
    """A value of each key, from a number in [0, 1) for each."""
    return {key: _place(space, share) for (key, space), share in zip(spaces.items(), shares, strict=False)}


def within(space: Space, value: Any) -> bool:
    """Whether a value may be drawn."""
    (kind, values), *_ = space.items()
    return value in values if kind == "choice" else bool(values[0] <= value <= values[1])


def tidy(value: float, low: float, high: float) -> float:
    """Four digits, as one would write it by hand, within the limits."""
    return min(max(float(f"{value:.4g}"), low), high)


def _place(space: Space, share: float) -> Any:
    (kind, values), *_ = space.items()
    if kind == "choice":
        return values[int(share * len(values))]
    low, high = values
    if kind == "integer":
        return low + int(share * (high - low + 1))
    if kind == "log":
        return tidy(low * math.exp(share * math.log(high / low)), low, high)
    return tidy(low + share * (high - low), low, high)


def _combinations(sweep: Sweep) -> Iterator[Keys]:
    recipes = [{"recipe": name} for name in sweep.recipes] if len(sweep.recipes) > 1 else [{}]
    grid = [dict(zip(sweep.grid, values, strict=True)) for values in itertools.product(*sweep.grid.values())]
    seeds = [{"seed": seed} for seed in sweep.seeds] if sweep.seeds is not None else [{}]
    parts: Sequence[list[Keys]] = (recipes, sweep.cases or [{}], grid, _draws(sweep), seeds)
    for combination in itertools.product(*parts):
        yield {key: value for part in combination for key, value in part.items()}


def _draws(sweep: Sweep) -> list[Keys]:
    """Of the random search, each by its number: more draws later keep the first ones."""
    if not sweep.search:
        return [{}]
    if sweep.method == "tpe":
        return []
    generators = (np.random.default_rng((sweep.seed, number)) for number in range(sweep.trials or 0))
    return [draw(sweep.search, generator.random(len(sweep.search)).tolist()) for generator in generators]


def _ends(sweep: Sweep) -> list[Keys]:
    """The limits of the search, so that what is wrong with them is found before anything runs."""
    if not sweep.search:
        return []
    lowest, highest = (draw(sweep.search, itertools.repeat(share)) for share in (0.0, 1 - 1e-12))
    choices = [(key, value) for key, space in sweep.search.items() for value in space.get("choice", ())]
    return [lowest, highest, *(lowest | {key: value} for key, value in choices)]
