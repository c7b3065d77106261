"""Trials of a sweep, each with its resolved recipe."""

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
from rsft.recipe.text import Document, to_yaml
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
        content = json.dumps(changed_values(self.recipe), sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:12]


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


def make_trial(sweep: Sweep, keys: Mapping[str, Any]) -> Trial:
    """Make the trial of a sweep with given keys.

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
    """Iterate over the keys of all trials that are known in advance."""
    recipes = [{"recipe": name} for name in sweep.recipes] if len(sweep.recipes) > 1 else [{}]
    grid = [dict(zip(sweep.grid, values, strict=True)) for values in itertools.product(*sweep.grid.values())]
    seeds = [{"seed": seed} for seed in sweep.seeds] if sweep.seeds is not None else [{}]
    draws: list[KeyValues] = [] if sweep.method == "tpe" else [{}]
    if sweep.search and sweep.method == "random":  # draw n depends on (seed, n), so more trials keep the first ones
        generators = (np.random.default_rng((sweep.seed, number)) for number in range(sweep.trials or 0))
        draws = [_sample(sweep.search, generator.random(len(sweep.search)).tolist()) for generator in generators]
    factors: Sequence[list[KeyValues]] = (recipes, sweep.cases or [{}], grid, draws, seeds)
    for combination in itertools.product(*factors):
        yield {key: value for values in combination for key, value in values.items()}


def _limits(sweep: Sweep) -> list[KeyValues]:
    """Return the limits and choices of the search, to check them before any run starts."""
    if not sweep.search:
        return []
    lowest, highest = (_sample(sweep.search, itertools.repeat(share)) for share in (0.0, 1 - 1e-12))
    choices = [(key, value) for key, space in sweep.search.items() for value in space.get("choice", ())]
    return [lowest, highest, *(lowest | {key: value} for key, value in choices)]
