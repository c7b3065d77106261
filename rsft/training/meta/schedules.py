"""The outer loops by the name of their schedule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from rsft.errors import RequestError
from rsft.models.classifier import Classifier
from rsft.peft.methods.builtin import LoTR
from rsft.peft.methods.settings import BottleneckMethod, LowRankMethod
from rsft.recipe.registries import LossFunction
from rsft.recipe.schema import MetaSection, Recipe
from rsft.training.meta.bilevel import BiLevelLoop, MetaSplitter
from rsft.training.meta.metalora import MetaloraLoop, MetaloraSplitter


def _check_metapeft(recipe: Recipe) -> None:
    """Raise RequestError if a recipe has a second-order step, or factors of features, that nothing computes."""
    method = recipe.peft.build()
    is_feature = getattr(method, "modulator", "site") == "feature"
    if is_feature and recipe.meta is None:
        message = "nothing learns factors of features"
        hint = "add the section meta, or leave peft.modulator out"
        raise RequestError(message, "peft.modulator", hint)
    if (
        is_feature
        and isinstance(method, LoTR)
        and recipe.meta is not None
        and recipe.meta.scale_invariant_steps
    ):
        message = "the core of LoTR is not linear in the factors of output features"
        raise RequestError(
            message,
            "meta.scale_invariant_steps",
            "leave it out, or use peft.modulator=site",
        )
    if (
        recipe.meta is not None
        and recipe.meta.order == 2
        and recipe.train.optimizer != "sgd"
    ):
        message = "a second-order outer step unrolls a step of SGD"
        hint = "use meta.order=1, or train.optimizer=sgd"
        raise RequestError(message, "meta.order", hint)


def _check_metalora(recipe: Recipe) -> None:
    """Raise RequestError if a recipe has what the code of metalora has not."""
    train = recipe.train
    hint = "or choose another meta.schedule"
    method = recipe.peft.build()
    kinds = {"site": LowRankMethod, "feature": BottleneckMethod}
    if not isinstance(method, kinds[getattr(method, "modulator", "site")]):
        message = (
            "metalora learns a scale for each site of LoRA and LoTR, and a factor for"
            " each feature of adapters"
        )
        method_hint = (
            "use peft.modulator=site with lora or lotr, feature with adapter or"
            " adaptformer"
        )
        raise RequestError(message, "meta.schedule", f"{method_hint}, {hint}")
    if train.optimizer != "sgd":
        raise RequestError(
            "both optimizers of metalora are SGD", "train.optimizer", f"use sgd, {hint}"
        )
    if train.accumulate_grad_batches > 1:
        message = (
            "an outer step of metalora would drop the gradients of an unfinished step"
        )
        raise RequestError(message, "train.accumulate_grad_batches", f"use 1, {hint}")
    if train.last_blocks is not None:
        message = "metalora learns the scales of all sites"
        raise RequestError(message, "train.last_blocks", f"leave the key out, {hint}")


def _make_metapeft_loops(
    classifier: Classifier,
    loss: LossFunction,
    inner_optimizer: torch.optim.Optimizer,
    meta: MetaSection | None,
    **options: Any,
) -> BiLevelLoop:
    """Return the loops of MetaPEFT, with Adam for gamma; the arguments are those of `BiLevelLoop`."""
    if meta is None:
        outer_optimizer = None
    else:
        outer_optimizer = torch.optim.Adam(classifier.adapted.gamma, lr=meta.lr)
    return BiLevelLoop(
        classifier, loss, inner_optimizer, outer_optimizer, meta, **options
    )


class OuterLoop(NamedTuple):
    """What a schedule consists of.

    Attributes:
        make_loops: makes the steps of both loops of classifier, inner loss, inner
            optimizer, section and options.
        splitter: class that draws the chips of outer steps, and says when one is due.
        check_recipe: raises RequestError if a recipe has what the schedule has not.
    """

    make_loops: Callable[..., BiLevelLoop]
    splitter: type[MetaSplitter]
    check_recipe: Callable[[Recipe], None]


_METAPEFT = OuterLoop(_make_metapeft_loops, MetaSplitter, _check_metapeft)
_BY_SCHEDULE = {"metalora": OuterLoop(MetaloraLoop, MetaloraSplitter, _check_metalora)}


def outer_loop(meta: MetaSection | None) -> OuterLoop:
    """Return the outer loop of a recipe; without a modulator, the one of MetaPEFT, which then takes no outer steps.

    Args:
        meta: the section `meta`, or None.
    """
    if meta is None:
        return _METAPEFT
    return _BY_SCHEDULE.get(meta.schedule, _METAPEFT)
