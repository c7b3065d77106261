"""What was done and what came out, in words."""

from __future__ import annotations

from collections.abc import Sequence

from rsft.evaluate.report.files import Evaluation, Interval
from rsft.metrics.accuracy import GROUPS
from rsft.peft.sites import select_positions
from rsft.recipe.schema import Peft, Recipe

LOSSES = {"logit_adjustment": "logit-adjusted cross entropy", "ce": "cross entropy"}
POOLS = {"token": "the class token", "avg": "the mean of the patch tokens"}
STARTS = {"class-mean": "the class means of the frozen features", "random": "random"}


def describe(recipe: Recipe) -> list[str]:
    """The method of a recipe, a few sentences."""
    peft, head, loss, train = recipe.peft, recipe.head, recipe.loss, recipe.train
    backbone, feature = recipe.backbone.name, POOLS[recipe.backbone.pool]
    prior = f" (τ = {loss.tau:g})" if loss.name == "logit_adjustment" else ""
    return [
        f"{peft.title}{_place(peft)} of the frozen {backbone}; feature: {feature}.",
        _modulation(recipe),
        f"{LOSSES[loss.name].capitalize()}{prior}, {head.kind} head started at {STARTS[head.init]}.",
        f"{counted(train.epochs, 'epoch')} of SGD at rate {train.lr:g} in batches of {train.batch_size}, "
        f"augmentation: {recipe.data.augment}.",
    ]


def _place(peft: Peft) -> str:
    """Size and place of the modules, as far as the method has them."""
    sizes = [f"{key} {getattr(peft, key)}" for key in ("rank", "dim", "prompts") if key in peft.keys]
    words = f" of {listed(sizes)}" if sizes else ""
    if "positions" in peft.keys:
        words += f" beside {listed(select_positions(peft.positions))}"
    return f"{words} in {_blocks(peft.blocks)}" if "blocks" in peft.keys else words


def _modulation(recipe: Recipe) -> str:
    meta = recipe.meta
    if meta is None:
        scaled = f": every module's output is multiplied by {recipe.peft.scale}" if "scale" in recipe.peft.keys else ""
        return f"No modulator{scaled}."
    meta_step = f"an Adam step at rate {meta.lr:g} every {meta.every} inner steps"
    held_out = "held out of the inner loop" if meta.holdout else "also seen by the inner loop"
    return (
        f"One learned scale a site, from {meta.init:g}; {meta_step}, "
        f"on a meta subset of {meta.ratio:.0%} of the training chips, drawn anew each epoch, {held_out} "
        f"({meta.sampling} sampling)."
    )


def _blocks(blocks: str | Sequence[int]) -> str:
    if not isinstance(blocks, str):
        return f"blocks {listed([str(block) for block in blocks])}"
    form, _, number = blocks.partition(":")
    if "-" in form:
        return f"blocks {form.replace('-', ' to ')}"
    return {"all": "all blocks", "last": f"the last {number} blocks", "every": f"one of every {number} blocks"}[form]


def verdict(evaluation: Evaluation) -> list[str]:
    """The outcome in two or three sentences, beside the better baseline."""
    own, chips = evaluation.summary, f"{evaluation.count:,} {evaluation.split} chips"
    right = f"{evaluation.method} is right on {_share(own.micro.value)} of {chips}"
    sentences = [f"{right}{_beside(evaluation, 'micro')}."]
    rarest = next((group for group in reversed(GROUPS) if getattr(own, group)), None)
    if rarest:
        found = f"In the classes of the {rarest} it finds {_share(getattr(own, rarest).value)} of the chips"
        sentences.append(f"{found}{_beside(evaluation, rarest)}.")
    return [*sentences, f"It is weakest at {own.worst.name} ({_share(own.worst.value)})."]


def _share(value: float) -> str:
    return f"{percent(value)}\N{NO-BREAK SPACE}%"


def better_baseline(evaluation: Evaluation, measure: str) -> tuple[str, Interval] | None:
    """The baseline with the higher value of a measure that has an interval."""
    found = {name: getattr(summary, measure) for name, summary in evaluation.baselines.items()}
    known = {name: spread for name, spread in found.items() if spread is not None}
    return max(known.items(), key=lambda item: item[1].value) if known else None


def _beside(evaluation: Evaluation, measure: str) -> str:
    best = better_baseline(evaluation, measure)
    if best is None:
        return ""
    name, other = best
    own: Interval = getattr(evaluation.summary, measure)
    apart = own.low > other.high or other.low > own.high
    overlap = "" if apart else "; the intervals overlap"
    return f", {difference(own.value, other.value)} the better baseline ({name}{overlap})"


def difference(own: float, other: float) -> str:
    """How far one share is from another, in words."""
    points = round(100 * (own - other), 1)
    if points == 0:
        return "level with"
    return f"{abs(points):.1f} points {'above' if points > 0 else 'below'}"


def counted(count: int, noun: str, ending: str = "s") -> str:
    """ "1 chip", "1,200 chips"."""
    return f"{count:,} {noun}{'' if count == 1 else ending}"


def percent(value: float) -> str:
    """A share of 1 in %, one decimal."""
    return f"{100 * value:.1f}"


def duration(seconds: float) -> str:
    """Seconds, or minutes and seconds, or hours and minutes."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def size(count: int) -> str:
    """Bytes in kB or MB."""
    return f"{count / 1e3:,.0f} kB" if count < 1e6 else f"{count / 1e6:,.1f} MB"


def listed(names: Sequence[str]) -> str:
    """ "a, b and c"."""
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
