"""The trials of a sweep: one recipe for each combination of values of its file."""

import functools
import itertools
import operator
from collections.abc import Iterator, Mapping

import numpy as np

from rsft.errors import Fault, RecipeError
from rsft.plugins.sweeps.sweep_file import Space, Sweep
from rsft.recipe.library import find_recipe
from rsft.recipe.load import load_recipe
from rsft.recipe.text import Document, to_yaml
from rsft.study.file_faults import locate_fault, raise_faults
from rsft.study.trials import KeyValues, Trial

MAX_TRIALS = 10_000
"""Largest number of trials of one sweep; a larger number is probably a typing error."""


def make_trial(sweep: Sweep, keys: KeyValues) -> Trial:
    """Return the trial of a sweep with given keys.

    Raises:
        RequestError: the recipe does not exist.
        RecipeError: a key or value is not valid.
    """
    changes = dict(keys)
    name = str(changes.pop("recipe", sweep.recipes[0]))
    values = sweep.overrides | changes
    if name in sweep.roots:
        values = {"data.root": sweep.roots[name]} | values
    overrides = [f"{key}={to_yaml(value)}" for key, value in values.items()]
    return Trial(dict(keys), load_recipe(find_recipe(name), overrides))


def list_trials(sweep: Sweep, document: Document) -> list[Trial]:
    """Return the trials that are known in advance, without duplicates.

    TPE proposes its trials later. The limits of its ranges are checked too.

    Raises:
        RequestError: a recipe does not exist.
        RecipeError: all faults of all values, with their lines in the sweep file.
    """
    combinations = list(itertools.islice(_combinations(sweep), MAX_TRIALS + 1))
    if len(combinations) > MAX_TRIALS:
        document.add_fault(
            "grid", f"more than {MAX_TRIALS:,} runs", "fewer values, or a search"
        )
        raise_faults(document, "sweep")
    for keys in _limits(sweep.search):
        _make_checked(sweep, keys, document)
    trials: dict[str, Trial] = {}
    for keys in combinations:
        trial = _make_checked(sweep, keys, document)
        if trial is not None:
            trials.setdefault(trial.id, trial)
    raise_faults(document, "sweep")
    return list(trials.values())


def _make_checked(sweep: Sweep, keys: KeyValues, document: Document) -> Trial | None:
    """Return a trial, or None with its faults added to the document of the sweep."""
    try:
        return make_trial(sweep, keys)
    except RecipeError as error:
        document.faults += [_locate(document, fault) for fault in error.faults]
        return None


def _locate(document: Document, fault: Fault) -> Fault:
    keys = [f"{section}.{fault.key}" for section in ("grid", "search", "overrides")]
    if any(fault.key in case for case in document.values.get("cases", ())):
        keys.append("cases")
    return locate_fault(document, fault, keys)


def _combinations(sweep: Sweep) -> Iterator[KeyValues]:
    """Iterate over the keys of all trials that are known in advance."""
    recipes = [{"recipe": name} for name in sweep.recipes]
    if len(recipes) == 1:
        recipes = [{}]
    seeds = [{"seed": seed} for seed in sweep.seeds or ()]
    grid = [
        dict(zip(sweep.grid, values, strict=True))
        for values in itertools.product(*sweep.grid.values())
    ]
    factors = (recipes, sweep.cases or [{}], grid, _draws(sweep), seeds or [{}])
    for parts in itertools.product(*factors):
        yield functools.reduce(operator.or_, parts)


def _draws(sweep: Sweep) -> list[KeyValues]:
    """Return the random draws of a search.

    A draw depends on the seed and its number, so more trials keep the first ones.
    """
    if sweep.method == "tpe":
        return []
    if not sweep.search:
        return [{}]
    draws = []
    for number in range(sweep.trials or 0):
        generator = np.random.default_rng((sweep.seed, number))
        shares = generator.random(len(sweep.search)).tolist()
        pairs = zip(sweep.search.items(), shares, strict=True)
        draws.append({key: space.value_at(share) for (key, space), share in pairs})
    return draws


def _limits(search: Mapping[str, Space]) -> Iterator[KeyValues]:
    """Iterate over the limits and choices of a search, one key after the other."""
    lowest = {key: space.values[0] for key, space in search.items()}
    for key, space in search.items():
        for value in space.values:
            yield lowest | {key: value}
