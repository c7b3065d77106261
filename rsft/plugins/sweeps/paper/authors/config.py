"""The settings and tensors of the authors' code that correspond to a recipe."""

import math
from collections.abc import Mapping
from operator import attrgetter
from pathlib import Path

from rsft.peft.sites import select_blocks, select_positions
from rsft.plugins.sweeps.paper.authors.process import SATMAE, AuthorsTask
from rsft.recipe.load import dump_recipe
from rsft.recipe.schema import Recipe
from rsft.training.optim.optimizers import base_lr
from rsft.types import JsonObject
from rsft.utils.atomic_files import write_text

POSITIONS = ("q", "k", "v", "out", "mlp1", "mlp2")
LAYERS = {
    "norm1": "ssf_ln_list.*.ln_1",
    "attn.qkv": "ssf_attn_list.*.attn_in",
    "attn.proj": "ssf_attn_list.*.attn_out",
    "norm2": "ssf_ln_list.*.ln_2",
    "mlp.fc1": "ssf_mlp_list.*.mlp_in",
    "mlp.fc2": "ssf_mlp_list.*.mlp_out",
}
"""Layers of a block -> SSF's module of the authors."""

VPT = {"prompts": "tuner.vpt_list.*.prompt"}
BIASES = {f"{layer}.bias": f"image_encoder.blocks.*.{layer}.bias" for layer in LAYERS}


PLAIN = {
    "train.sampler": "natural",
    "train.accumulate_grad_batches": 1,
    "train.warmup_epochs": 0,
    "train.optimizer": "sgd",
    "train.max_grad_norm": None,
    "train.mixup": None,
    "train.ema": None,
    "train.decay_all": True,
    "head.kind": "cosine",
    "head.init": "class-mean",
    "head.earlier_blocks": [],
    "loss.name": "logit_adjustment",
    "backbone.pool": "token",
}
"""Settings outside of the method that metalora always has."""

METHODS = {
    "lora": "lora",
    "adapter": "adapter",
    "adaptformer": "adaptformer",
    "vpt-shallow": "vpt_shallow",
    "vpt-deep": "vpt_deep",
    "bitfit": "bias_tuning",
}
"""PEFT methods, each with the authors' key that turns it on."""

SCHEDULERS = {"cosine": "CosineAnnealingLR", "constant": "ConstantLR"}

MethodConfig = tuple[JsonObject, Mapping[str, str]]
"""The authors' settings of a method, and their names of its tensors."""


def low_rank_tensors(modules: str, *positions: str) -> dict[str, str]:
    """Return the tensors of LoRA at some positions, given the authors' modules."""
    tensors = {}
    for position in positions:
        for name in "ab":
            theirs = f"tuner.{modules}.*.{position}.lora_{name.upper()}"
            tensors[f"{position}.{name}"] = theirs
    return tensors


def bottleneck_tensors(modules: str, scale: str = "") -> dict[str, str]:
    """Return the tensors of a bottleneck.

    Args:
        modules: the authors' list of modules.
        scale: the authors' name of a trained scale; "" for none.
    """
    prefix = f"tuner.{modules}.*"
    tensors = {}
    for ours, theirs in (("norm", "ln"), ("down", "down_proj"), ("up", "up_proj")):
        for name in ("weight", "bias"):
            tensors[f"mlp.{ours}.{name}"] = f"{prefix}.{theirs}.{name}"
    if scale:
        tensors["mlp.scale"] = f"{prefix}.{scale}"
    return tensors


def adapt_recipe(recipe: Recipe) -> Recipe:
    """Return a recipe with what the authors' code always has.

    This is float32, a trained scale in AdaptFormer, and three planes.
    """
    settings = recipe.peft.model_dump()
    has_scale = recipe.meta is not None and settings["modulator"] != "feature"
    if recipe.peft.method == "adaptformer" and not has_scale:
        settings["scale"] = "learnable"
    data = recipe.data
    if recipe.backbone.name == SATMAE:
        data = data.model_copy(update={"remap": "replicate"})
    train = recipe.train.model_copy(update={"precision": "fp32"})
    peft = type(recipe.peft).model_validate(settings)
    return recipe.model_copy(update={"peft": peft, "data": data, "train": train})


def authors_task(recipe: Recipe, depth: int, path: Path) -> AuthorsTask | None:
    """Write a recipe to a file, and return the same training for the code of metalora.

    Args:
        recipe: a recipe of one run, see `adapt_recipe`.
        depth: number of blocks of the network.
        path: the file.

    Returns:
        The task; None if metalora's code cannot train so.
    """
    method = _method_config(recipe, depth)
    if method is None or not _is_plain(recipe):
        return None
    config, tensors = method
    train = recipe.train
    meta = recipe.meta
    config |= {
        "num_epochs": train.epochs,
        "lr": base_lr(train),
        "momentum": train.momentum,
        "weight_decay": train.weight_decay,
        "scale": recipe.head.logit_scale,
        "loss_type": "LA",
        "scheduler": SCHEDULERS[train.schedule],
    }
    if meta is not None:
        config |= {
            "use_meta": True,
            "meta_lr": meta.lr,
            "meta_data_ratio": meta.ratio,
            "meta_inner_steps": meta.outer_every,
            # the code trains num_epochs / (1 - ratio), rounded up
            "num_epochs": math.floor(train.epochs * (1 - meta.ratio)),
        }
    write_text(path, dump_recipe(recipe))
    return AuthorsTask(str(path.absolute()), (), config, tensors, takes_rates=True)


def _is_plain(recipe: Recipe) -> bool:
    """Return whether metalora has all settings outside of the method."""
    if any(attrgetter(key)(recipe) != value for key, value in PLAIN.items()):
        return False
    # without augmentation, the batches are outputs of frozen blocks
    is_augmented = recipe.data.augment != "none"
    return is_augmented and (recipe.meta is None or recipe.meta.schedule == "metalora")


def _method_config(recipe: Recipe, depth: int) -> MethodConfig | None:
    """Return the section peft for the authors' code; None if it has no such method."""
    settings = recipe.peft.settings
    method = recipe.peft.method
    if method not in METHODS or settings.get("dropout"):
        return None
    blocks = [*select_blocks(settings.get("blocks", "all"), depth)]
    limits = [blocks[0], blocks[-1] + 1]
    if blocks != list(range(*limits)):
        return None
    config = {METHODS[method]: True, "partial": limits}
    if method == "lora":
        return _lora_config(recipe, config)
    if method == "bitfit":
        return (config, BIASES) if limits == [0, depth] else None
    if method in ("vpt-shallow", "vpt-deep"):
        return config | {"vpt_len": settings["prompts"]}, VPT
    return _bottleneck_config(recipe, config)


def _bottleneck_config(recipe: Recipe, config: JsonObject) -> MethodConfig | None:
    settings = recipe.peft.settings
    method = recipe.peft.method
    modules = f"{method}_list"
    tensors = bottleneck_tensors(modules, "scaling" if method == "adaptformer" else "")
    if recipe.meta is not None:
        if settings["modulator"] != "feature" or recipe.meta.init_scale != 1:
            return None
        tensors["mlp.alpha"] = f"tuner.{modules}.*.meta_scale"
    width = settings["dim"]
    # a scale of 1
    return config | {"adapter_dim": width, "scale_alpha": width}, tensors


def _lora_config(recipe: Recipe, config: JsonObject) -> MethodConfig | None:
    settings = recipe.peft.settings
    if settings["init"] != "rank" or settings["modulator"] != "site":
        return None
    rank = settings["rank"]
    if recipe.meta is not None:
        alpha = recipe.meta.init_scale * rank
    else:
        alpha = settings["alpha"] or settings["scale"] * rank
    positions = select_positions(settings["positions"])
    config |= {"adapter_dim": rank, "scale_alpha": float(alpha)}
    if set(positions) == {"q", "v"}:
        tensors = low_rank_tensors("lora_list", "q", "v")
        if recipe.meta is not None:
            for name in "qv":
                tensors[f"{name}.alpha"] = f"tuner.lora_list.*.{name}.meta_alpha"
        return config, tensors
    is_parallel = "out" in positions and settings["out_insertion"] != "sequential"
    if recipe.meta is not None or is_parallel:
        return None
    blocks = list(range(*config["partial"]))
    arch = {"alpha": alpha, "rank": rank, "layers": blocks, "modules": [*positions]}
    config |= {"lora": False, "use_flora": True, "flora": {"arch": arch}}
    return config, low_rank_tensors("flora_list", *positions)
