"""The settings and tensors of the authors' code that correspond to a recipe."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rsft.peft.sites import select_blocks, select_positions
from rsft.plugins.paper.authors.process import SATMAE, AuthorsTask
from rsft.recipe.load import dump_recipe
from rsft.recipe.schema import Recipe
from rsft.training.optim.optimizers import base_lr
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


def low_rank_tensors(modules: str, *positions: str) -> dict[str, str]:
    """Return the tensors of LoRA at some positions, given the authors' list of modules."""
    return {
        f"{p}.{name}": f"tuner.{modules}.*.{p}.lora_{name.upper()}"
        for p in positions
        for name in "ab"
    }


def bottleneck_tensors(modules: str, scale: str = "") -> dict[str, str]:
    """Return the tensors of a bottleneck.

    Args:
        modules: the authors' list of modules.
        scale: the authors' name of a trained scale; "" for none.
    """
    layers = {"norm": "ln", "down": "down_proj", "up": "up_proj"}
    names = {
        f"{ours}.{x}": f"{theirs}.{x}"
        for ours, theirs in layers.items()
        for x in ("weight", "bias")
    }
    names |= {"scale": scale} if scale else {}
    return {
        f"mlp.{ours}": f"tuner.{modules}.*.{theirs}" for ours, theirs in names.items()
    }


def adapt_recipe(recipe: Recipe) -> Recipe:
    """Return a recipe with what the authors' code always has: float32, a trained scale in AdaptFormer, three planes."""
    settings = recipe.peft.model_dump()
    if recipe.peft.method == "adaptformer" and (
        recipe.meta is None or settings["modulator"] == "feature"
    ):
        settings["scale"] = "learnable"
    data = recipe.data
    train = recipe.train.model_copy(update={"precision": "fp32"})
    if recipe.backbone.name == SATMAE:
        data = data.model_copy(update={"remap": "replicate"})
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
    if method is None or _has_other_settings(recipe):
        return None
    config, tensors = method
    train = recipe.train
    meta = recipe.meta
    config |= {
        "num_epochs": train.epochs,
        "lr": base_lr(train),
        "momentum": train.momentum,
    }
    config |= {
        "weight_decay": train.weight_decay,
        "scale": recipe.head.logit_scale,
        "loss_type": "LA",
    }
    config["scheduler"] = {"cosine": "CosineAnnealingLR", "constant": "ConstantLR"}[
        train.schedule
    ]
    if meta is not None:  # the code trains num_epochs / (1 - ratio), rounded up
        config |= {"use_meta": True, "meta_lr": meta.lr, "meta_data_ratio": meta.ratio}
        config |= {
            "meta_inner_steps": meta.outer_every,
            "num_epochs": math.floor(train.epochs * (1 - meta.ratio)),
        }
    write_text(path, dump_recipe(recipe))
    return AuthorsTask(str(path), (), config, tensors, takes_rates=True)


def _has_other_settings(recipe: Recipe) -> bool:
    """Return whether a recipe has settings outside of the method that metalora does not have."""
    train = recipe.train
    head = recipe.head
    is_plain = (
        train.sampler == "natural"
        and train.accumulate_grad_batches == 1
        and train.warmup_epochs == 0
    )
    is_plain &= (
        train.optimizer == "sgd"
        and train.max_grad_norm is None
        and train.mixup is None
        and train.ema is None
    )
    is_plain &= (head.kind, head.init, head.earlier_blocks) == (
        "cosine",
        "class-mean",
        [],
    )
    is_plain &= (
        recipe.loss.name == "logit_adjustment"
        and recipe.backbone.pool == "token"
        and train.decay_all
    )
    is_plain &= (
        recipe.data.augment != "none"
    )  # else the batches are outputs of frozen blocks
    return not is_plain or (
        recipe.meta is not None and recipe.meta.schedule != "metalora"
    )


def _method_config(
    recipe: Recipe, depth: int
) -> tuple[dict[str, Any], Mapping[str, str]] | None:
    """Return the authors' settings and tensors of the section peft; None if they have no such method."""
    settings = recipe.peft.settings
    method = recipe.peft.method
    is_meta = recipe.meta is not None
    if method == "bitfit":
        if settings["blocks"] == "every:1":
            return ({"bias_tuning": True}, BIASES)
        return None
    if method == "vpt-shallow":
        return {"vpt_shallow": True, "vpt_len": settings["prompts"]}, VPT
    if (
        method not in ("lora", "adapter", "adaptformer", "vpt-deep")
        or settings["dropout"]
    ):
        return None
    blocks = select_blocks(settings["blocks"], depth)
    partial = [blocks[0], blocks[-1] + 1]
    if list(blocks) != list(range(*partial)):
        return None
    if method == "vpt-deep":
        return {
            "vpt_deep": True,
            "vpt_len": settings["prompts"],
            "partial": partial,
        }, VPT
    if method == "lora":
        return _lora_config(recipe, blocks)
    if recipe.meta is not None and (settings["modulator"], recipe.meta.init_scale) != (
        "feature",
        1,
    ):
        return None
    modules = f"{method}_list"
    tensors = bottleneck_tensors(modules, "scaling" if method == "adaptformer" else "")
    tensors |= {"mlp.alpha": f"tuner.{modules}.*.meta_scale"} if is_meta else {}
    width = {
        "adapter_dim": settings["dim"],
        "scale_alpha": settings["dim"],
    }  # a scale of 1
    return {method: True, "partial": partial} | width, tensors


def _lora_config(
    recipe: Recipe, blocks: tuple[int, ...]
) -> tuple[dict[str, Any], Mapping[str, str]] | None:
    settings = recipe.peft.settings
    is_meta = recipe.meta is not None
    positions = select_positions(settings["positions"])
    rank = settings["rank"]
    if recipe.meta:
        alpha = recipe.meta.init_scale * rank
    else:
        alpha = settings["alpha"] or settings["scale"] * rank
    if settings["init"] != "rank" or settings["modulator"] != "site":
        return None
    if set(positions) == {"q", "v"}:
        tensors = low_rank_tensors("lora_list", "q", "v")
        tensors |= (
            {f"{p}.alpha": f"tuner.lora_list.*.{p}.meta_alpha" for p in "qv"}
            if is_meta
            else {}
        )
        partial = [blocks[0], blocks[-1] + 1]
        return {
            "lora": True,
            "adapter_dim": rank,
            "scale_alpha": float(alpha),
            "partial": partial,
        }, tensors
    if is_meta or ("out" in positions and settings["out_insertion"] != "sequential"):
        return None
    arch = {
        "alpha": alpha,
        "rank": rank,
        "layers": list(blocks),
        "modules": list(positions),
    }
    config = {"use_flora": True, "adapter_dim": rank, "flora": {"arch": arch}}
    return config, low_rank_tensors("flora_list", *positions)
