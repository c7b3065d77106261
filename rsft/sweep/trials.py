"""Trials of a sweep, each with its resolved recipe."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rsft.errors import Fault, RecipeError
from rsft.recipe.library import find_recipe
from rsft.recipe.load import load_recipe
from rsft.recipe.renames import content_in_first_format
from rsft.recipe.schema import Recipe
from rsft.recipe.text import Document, to_yaml
from rsft.sweep.results import OUTCOME
from rsft.sweep.schema import Space, Sweep, locate_fault

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
        return _hash(changed_values(self.recipe))

    def folder(self, trials: Path) -> Path:
        """Return the folder of the trial; a finished trial of version 0.1 keeps the folder that it has.

        Args:
            trials: folder of all trials.
        """
        folder, old_folder = trials / self.id, trials / _hash(content_in_first_format(self.recipe))
        return old_folder if not (folder / OUTCOME).is_file() and old_folder.is_dir() else folder


def changed_values(recipe: Recipe) -> KeyValues:
    """Return the values of a recipe that differ from their defaults.

    Args:
        recipe: its name and trackers are left out, as they do not change the numbers of a run.

    Returns:
        Values by section and key. A section without such values is left out, unless it is None by default.
    """
    content: KeyValues = {"seed": recipe.seed} if recipe.seed else {}
    for name, section in recipe.sections():
        if section is not None and name != "track":
            defaults = {key: info.get_default(call_default_factory=True) for key, info in section.key_infos.items()}
            values = {key: value for key, value in section if value != defaults[key]}
            content |= {name: values} if values or Recipe.model_fields[name].default is None else {}
    return content


def _hash(content: KeyValues) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def make_trial(sweep: Sweep, keys: Mapping[str, Any]) -> Trial:
    """Make the trial with given keys.

    Args:
        sweep: the sweep.
        keys: values that the sweep sets.

    Returns:
        The trial.

    Raises:
        RequestError: the recipe does not exist.
        RecipeError: a key or value is not valid.
    """
    name = str(keys.get("recipe", sweep.recipes[0]))
    values = sweep.overrides | {key: value for key, value in keys.items() if key != "recipe"}
    overrides = [f"{key}={to_yaml(value)}" for key, value in values.items()]
    return Trial(dict(keys), load_recipe(find_recipe(name), overrides))


def list_trials(sweep: Sweep, document: Document) -> list[Trial]:
    """List the trials that are known in advance; TPE proposes its trials later.

    The values that TPE can propose are checked too, by the limits of their ranges.

    Args:
        sweep: the sweep.
        document: the sweep file.

    Returns:
        The trials without duplicates.

    Raises:
        RequestError: a recipe does not exist.
        RecipeError: all faults of all values, with their lines in the sweep file.
    """
    combinations = list(itertools.islice(_combinations(sweep), MAX_TRIALS + 1))
    if len(combinations) > MAX_TRIALS:
        line, value = document.lines.get("grid", 0), f"more than {MAX_TRIALS:,} runs"
        raise RecipeError([Fault(document.file, line, "grid", value, "fewer values, or a search")], subject="sweep")
    limits = _limits(sweep)
    trials: dict[str, Trial] = {}
    faults: list[Fault] = []
    for number, keys in enumerate([*limits, *combinations]):
        try:
            trial = make_trial(sweep, keys)
        except RecipeError as error:
            faults += [locate_fault(document, fault) for fault in error.faults]
            continue
        if number >= len(limits):
            trials.setdefault(trial.id, trial)
    if faults:
        raise RecipeError(sorted(dict.fromkeys(faults), key=lambda fault: fault.line), subject="sweep")
    return list(trials.values())


def is_in_search_space(sweep: Sweep, keys: Mapping[str, Any]) -> bool:
    """Return True if keys of a trial could have been proposed by the search of a sweep."""

    def contains(space: Space, value: Any) -> bool:
        (kind, values), *_ = space.items()
        return value in values if kind == "choice" else bool(values[0] <= value <= values[1])

    return set(keys) == set(sweep.search) and all(contains(space, keys[key]) for key, space in sweep.search.items())


def round_to_four_digits(value: float, low: float, high: float) -> float:
    """Round a value to four significant digits, within the limits."""
    return min(max(float(f"{value:.4g}"), low), high)


def _sample(spaces: Mapping[str, Space], shares: Iterable[float]) -> KeyValues:
    """Map one number in [0, 1) per key to a value of the key."""
    return {key: _value_at(space, share) for (key, space), share in zip(spaces.items(), shares, strict=False)}


def _value_at(space: Space, share: float) -> Any:
    (kind, values), *_ = space.items()
    if kind == "choice":
        return values[int(share * len(values))]
    low, high = values
    if kind == "integer":
        return low + int(share * (high - low + 1))
    if kind == "log":
        return round_to_four_digits(low * math.exp(share * math.log(high / low)), low, high)
    return round_to_four_digits(low + share * (high - low), low, high)


def _combinations(sweep: Sweep) -> Iterator[KeyValues]:
    recipes = [{"recipe": name} for name in sweep.recipes] if len(sweep.recipes) > 1 else [{}]
    grid = [dict(zip(sweep.grid, values, strict=True)) for values in itertools.product(*sweep.grid.values())]
    seeds = [{"seed": seed} for seed in sweep.seeds] if sweep.seeds is not None else [{}]
    factors: Sequence[list[KeyValues]] = (recipes, sweep.cases or [{}], grid, _draws(sweep), seeds)
    for combination in itertools.product(*factors):
        yield {key: value for values in combination for key, value in values.items()}


def _draws(sweep: Sweep) -> list[KeyValues]:
    """Return the draws of a random search; draw n depends on (seed, n), so more trials keep the first ones."""
    if not sweep.search:
        return [{}]
    if sweep.method == "tpe":
        return []
    generators = (np.random.default_rng((sweep.seed, number)) for number in range(sweep.trials or 0))
    return [_sample(sweep.search, generator.random(len(sweep.search)).tolist()) for generator in generators]


def _limits(sweep: Sweep) -> list[KeyValues]:
    """Return the limits and choices of the search, to check them before any run starts."""
    if not sweep.search:
        return []
    lowest, highest = (_sample(sweep.search, itertools.repeat(share)) for share in (0.0, 1 - 1e-12))
    choices = [(key, value) for key, space in sweep.search.items() for value in space.get("choice", ())]
    return [lowest, highest, *(lowest | {key: value} for key, value in choices)]
