"""A recipe in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rsft.evaluation.report.formatting import counted, listed
from rsft.peft.sites import select_positions
from rsft.recipe.schema import Data, Head, Peft, Recipe, Train
from rsft.recipe.text import show

LOSSES = {
    "logit_adjustment": "logit-adjusted cross entropy (τ = {tau:g})",
    "ce": "cross entropy",
    "focal": "focal loss (γ = {gamma:g})",
    "ldam": "LDAM (margin {margin:g}, scale {margin_scale:g})",
    "class_balanced": "class-balanced cross entropy (β = {beta:g})",
    "balanced_softmax": "balanced softmax",
    "lade": "LADE (weight {weight:g}, penalty {penalty:g})",
}
POOLS = {"token": "the class token", "avg": "the mean of the patch tokens"}
STARTS = {
    "class-mean": "the class means of the frozen features",
    "k-shot": "the means of {shots} frozen features a class",
    "linear-probe": "a logistic regression on frozen features",
    "random": "random",
}
SAMPLERS = {
    "natural": "",
    "class-balanced": ", drawn with classes alike",
    "square-root": ", drawn by the root of class frequency",
}


def describe(recipe: Recipe) -> list[str]:
    """The method of a recipe, a few sentences."""
    peft, loss = recipe.peft, recipe.loss
    backbone, feature = recipe.backbone.name, POOLS[recipe.backbone.pool]
    objective = LOSSES[loss.name].format(**loss.model_dump())
    if loss.name == "ldam" and loss.defer is not None:
        objective += f", classes weighted after {loss.defer:.0%} of training (β = {loss.beta:g})"
    return [
        f"{peft.title}{_place(peft)} of the frozen {backbone}; feature: {feature}.",
        _modulation(recipe),
        f"{objective[0].upper()}{objective[1:]}, {_head(recipe.head)}.",
        f"{_training(recipe.train)}, augmentation: {recipe.data.augment}.",
        _input(recipe.data),
    ]


def _place(peft: Peft) -> str:
    """Size and place of the modules, as far as the method has them."""
    sizes = [f"{key} {_plain(getattr(peft, key))}" for key in ("rank", "dim", "prompts") if key in peft.keys]
    words = f" of {listed(sizes)}" if sizes else ""
    if "positions" in peft.keys:
        words += f" beside {listed(select_positions(peft.positions))}"
    return f"{words} in {_blocks(peft.blocks)}" if "blocks" in peft.keys else words


def _plain(value: Any) -> str:
    return show(value) if isinstance(value, dict) else f"{value}"


def _modulation(recipe: Recipe) -> str:
    meta = recipe.meta
    if meta is None:
        scaled = "scale" in recipe.peft.keys
        words = f": every module's output is multiplied by {_plain(recipe.peft.scale)}" if scaled else ""
        return f"No modulator{words}."
    rounds = "each epoch" if meta.round == 1 else f"every {meta.round} epochs"
    held_out = "held out of the inner loop" if meta.holdout else "also seen by the inner loop"
    order = " (second order)" if meta.order == 2 else ""
    joint = ", both gradients of one pass" if meta.schedule == "joint" else ""
    pruned = f" Sites that end below {meta.prune_below:g} are left out." if meta.prune_below is not None else ""
    return (
        f"One learned scale a site, from {meta.init:g}; an Adam step{order} at rate {meta.lr:g} every "
        f"{counted(meta.every, 'inner step')}{joint}, on a meta subset of {meta.ratio:.0%} of the training chips, "
        f"drawn anew {rounds}, {held_out} ({meta.sampling} sampling).{pruned}"
    )


def _head(head: Head) -> str:
    return f"{head.kind} head started at {STARTS[head.init].format(shots=head.shots)}"


def _training(train: Train) -> str:
    accumulated = f" x {train.accumulate}" if train.accumulate > 1 else ""
    words = f"{counted(train.epochs, 'epoch')} of SGD at rate {train.lr:g} in batches of {train.batch_size}"
    words += f"{accumulated}{SAMPLERS[train.sampler]}"
    details = [f"{train.schedule} schedule"]
    if train.warmup_epochs:
        details.append(f"warm-up over {train.warmup_epochs:g} epoch{'' if train.warmup_epochs == 1 else 's'}")
    if train.clip_norm is not None:
        details.append(f"gradients clipped at {train.clip_norm:g}")
    if train.precision != "32":
        details.append(f"precision {train.precision}")
    if train.runs > 1:
        details.append(f"probabilities averaged over {train.runs} runs")
    return f"{words} ({', '.join(details)})"


def _input(data: Data) -> str:
    cut = f"the middle {data.crop} px" if data.crop else "chips"
    planes = f", planes {', '.join(data.bands)}" if data.bands else ""
    return f"Input: {cut} at {data.size} x {data.size}{planes}."


def _blocks(blocks: str | Sequence[int]) -> str:
    if not isinstance(blocks, str):
        return f"blocks {listed([str(block) for block in blocks])}"
    form, _, number = blocks.partition(":")
    if "-" in form:
        return f"blocks {form.replace('-', ' to ')}"
    return {"all": "all blocks", "last": f"the last {number} blocks", "every": f"one of every {number} blocks"}[form]
