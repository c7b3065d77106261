"""Describe a recipe in sentences."""

from collections.abc import Sequence
from typing import Any

from rsft.evaluation.report.render import join_words, pluralize
from rsft.peft.sites import ALL_POSITIONS, select_positions
from rsft.recipe.components import summarize
from rsft.recipe.registries import SAMPLERS, sampling_exponent
from rsft.recipe.schema import MetaSection, PeftSection, Recipe, TrainSection
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


def recipe_sentences(recipe: Recipe) -> list[str]:
    """Describe method, modulator, loss and head, training and input of a recipe in one or two sentences each."""
    peft, head, data = recipe.peft, recipe.head, recipe.data
    objective = summarize(recipe.loss.build()) + _class_prior(recipe)
    blocks = [str(block) for block in head.earlier_blocks]
    more = f" and of the mean patch token after block {join_words(blocks)} (logits averaged)"
    heads = f"{head.kind} head" + (f"s of the final feature{more}" if blocks else "")
    pixels = f"the middle {data.crop} px" if data.crop else "chips"
    planes = f", planes {', '.join(data.bands)}" if data.bands else ""
    return [
        f"{peft.title}{_sites(peft)} of the frozen {recipe.backbone.name}; feature: {POOLS[recipe.backbone.pool]}.",
        _modulator(recipe.meta, peft),
        f"{objective[0].upper()}{objective[1:]}; {heads}, initialized from "
        f"{HEAD_INITS[head.init].format(shots=head.shots)}.",
        f"{_training(recipe.train)}; augmentation: {data.augment}.",
        f"Input: {pixels} at {data.size} x {data.size}{planes}.",
    ]


def _sites(peft: PeftSection) -> str:
    """Describe the sizes and the sites of the modules, if the method has such settings."""
    settings = peft.settings
    sizes = [f"{key} {_value_text(value)}" for key, value in settings.items() if key not in SITE_KEYS]
    text = f" of {join_words(sizes)}" if sizes else ""
    if "positions" in settings:
        every = settings["positions"] == ALL_POSITIONS
        text += " at all positions" if every else f" at {join_words(select_positions(settings['positions']))}"
    if "blocks" in settings:
        text += f" in {_blocks(settings['blocks'])}"
    return f"{text} (A starts with fan-in r)" if settings.get("init") == "rank" else text


def _value_text(value: Any) -> str:
    return to_yaml(value) if isinstance(value, dict) else f"{value}"


def _modulator(meta: MetaSection | None, peft: PeftSection) -> str:
    if meta is None:
        alpha = peft.settings.get("alpha")
        scale = peft.settings.get("scale") if alpha is None else f"alpha / r, alpha = {alpha:g}"
        scaling = "" if scale is None else f": the output of every module is multiplied by {_value_text(scale)}"
        return f"No modulator{scaling}."
    resplit = "each epoch" if meta.resplit_every == 1 else f"every {meta.resplit_every} epochs"
    holdout = "not used to train the modules" if meta.holdout else "also used to train the modules"
    order = " (second order)" if meta.order == 2 else ""
    joint = " (both gradients from one pass)" if meta.schedule == "joint" else ""
    speed = "; the speed of a module does not depend on its scale" if meta.scale_invariant_steps else ""
    pruned = f" Sites that end below {meta.prune_below:g} are removed." if meta.prune_below is not None else ""
    return (
        f"One learned scale per site (block and position), starting at {meta.init_scale:g}. After every "
        f"{pluralize(meta.outer_every, 'training step')} of the modules, one step of Adam{order} with learning rate "
        f"{meta.lr:g} changes the scales{joint}. Its loss is that of {meta.ratio:.0%} of the training chips (the meta "
        f"subset), drawn again {resplit} ({meta.sampling} sampling) and {holdout}{speed}.{pruned}"
    )


def _class_prior(recipe: Recipe) -> str:
    """Describe the class prior of a loss that uses one, unless chips are drawn as often as they occur in both loops."""
    samplers = [recipe.train.sampler, *([recipe.meta.sampling] if recipe.meta else [])]
    exponents = [sampling_exponent(name) for name in samplers]
    if set(exponents) == {1.0} or not getattr(recipe.loss.build(), "uses_prior", False):
        return ""
    inner, *outer = ("n" if q == 1 else f"n^{q:g}" for q in exponents)
    outer_prior = f" (outer loop: {outer[0]})" if outer and outer[0] != inner else ""
    return f", with class priors as drawn: {inner} for n chips{outer_prior}"


def _training(train: TrainSection) -> str:
    accumulated = f" x {train.accumulate_grad_batches}" if train.accumulate_grad_batches > 1 else ""
    sampled = "" if train.sampler == "natural" else f", {SAMPLERS[train.sampler].title}"
    rate = f"{train.lr:g}" + ("" if train.head_lr is None else f" (head: {train.head_lr:g})")
    optimizer = {"sgd": "SGD", "adamw": "AdamW"}[train.optimizer]
    text = (
        f"{pluralize(train.epochs, 'epoch')} of {optimizer} with learning rate {rate} in batches of {train.batch_size}"
    )
    details = [f"{train.schedule} schedule"]
    if train.warmup_epochs:
        details.append(f"warm-up over {train.warmup_epochs:g} epoch{'' if train.warmup_epochs == 1 else 's'}")
    if train.max_grad_norm is not None:
        details.append(f"gradients clipped at {train.max_grad_norm:g}")
    if train.precision != "fp32":
        details.append(f"precision {train.precision}")
    if train.ensemble_size > 1:
        details.append(f"probabilities averaged over {train.ensemble_size} runs")
    return f"{text}{accumulated}{sampled} ({', '.join(details)})"


def _blocks(blocks: str | Sequence[int]) -> str:
    if not isinstance(blocks, str):
        return f"blocks {join_words([str(block) for block in blocks])}"
    form, _, number = blocks.partition(":")
    if "-" in form:
        return f"blocks {form.replace('-', ' to ')}"
    return {"all": "all blocks", "last": f"the last {number} blocks", "every": f"one of every {number} blocks"}[form]
