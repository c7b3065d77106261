"""Describe a recipe in sentences; assets/sections/method.html has their text."""

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from rsft.evaluation.report.render import fill_template, join_words
from rsft.peft.sites import ALL_POSITIONS, select_positions
from rsft.recipe.components import summarize
from rsft.recipe.registries import SAMPLERS, sampling_exponent
from rsft.recipe.schema import Recipe
from rsft.recipe.text import to_yaml

POOLS = {"token": "the class token", "avg": "the mean of the patch tokens or of the feature map"}
"""Description of each value of `backbone.pool`."""

HEAD_INITS = {
    "class-mean": "the class means of frozen features",
    "k-shot": "the means of {shots} frozen features per class",
    "linear-probe": "a logistic regression on frozen features",
    "random": "random weights",
}
"""Description of each value of `head.init`."""

SITE_KEYS = ("positions", "blocks", "scale", "adapter_scale", "dropout", "alpha", "init")
"""Keys of PEFT methods that are not sizes of modules."""


def describe_recipe(recipe: Recipe) -> Markup:
    """Describe method, modulator, loss and head, training and input of a recipe in one or two sentences each."""
    head, settings = recipe.head, recipe.peft.settings
    texts: dict[str, Any] = {key: to_yaml(x) if isinstance(x, dict) else f"{x}" for key, x in settings.items()}
    positions = ""
    if "positions" in settings:
        every = settings["positions"] == ALL_POSITIONS
        positions = "all positions" if every else join_words(select_positions(settings["positions"]))
    objective = summarize(recipe.loss.build()) + _class_prior(recipe)
    content = {
        "settings": settings | {"scale": texts.get("scale", "")},
        "sizes": [f"{key} {text}" for key, text in texts.items() if key not in SITE_KEYS],
        "positions": positions,
        "blocks": _blocks(settings["blocks"]) if "blocks" in settings else "",
        "objective": f"{objective[0].upper()}{objective[1:]}",
        "pool": POOLS[recipe.backbone.pool],
        "head_init": HEAD_INITS[head.init].format(shots=head.shots),
        "sampler": SAMPLERS[recipe.train.sampler].title,
    }
    text = fill_template("sections/method.html", dict(recipe) | content)
    return Markup(" ".join(text.split()))


def _class_prior(recipe: Recipe) -> str:
    """Describe the class prior of a loss that uses one, unless chips are drawn as often as they occur in both loops."""
    samplers = [recipe.train.sampler, *([recipe.meta.sampling] if recipe.meta else [])]
    exponents = [sampling_exponent(name) for name in samplers]
    if set(exponents) == {1.0} or not getattr(recipe.loss.build(), "uses_prior", False):
        return ""
    inner, *outer = ("n" if q == 1 else f"n^{q:g}" for q in exponents)
    outer_prior = f" (outer loop: {outer[0]})" if outer and outer[0] != inner else ""
    return f", with class priors as drawn: {inner} for n chips{outer_prior}"


def _blocks(blocks: str | Sequence[int]) -> str:
    if not isinstance(blocks, str):
        return f"blocks {join_words([str(block) for block in blocks])}"
    form, _, number = blocks.partition(":")
    if "-" in form:
        return f"blocks {form.replace('-', ' to ')}"
    return {"all": "all blocks", "last": f"the last {number} blocks", "every": f"one of every {number} blocks"}[form]
