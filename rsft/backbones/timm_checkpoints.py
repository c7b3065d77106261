"""Convert checkpoints of timm's hub, and DINOv3 checkpoints of Meta, to the tensors of a timm network."""

from __future__ import annotations

import re
from collections.abc import Collection

from torch import Tensor

from rsft.backbones.card import State, drop_tensors

_UNUSED = ("mask_token", "pre_logits", "lm_head")
"""Tensors of pre-training and of old heads. timm's `checkpoint_filter_fn` drops them."""

_META_RENAMES = {"storage_tokens": "reg_token", ".ls1.gamma": ".gamma_1", ".ls2.gamma": ".gamma_2"}
_META_UNUSED = re.compile(r".*(\.bias_mask|\.periods)$|local_cls_norm\.")


def convert_timm_checkpoint(state: State, expected: Collection[str], heads: Collection[str]) -> dict[str, Tensor]:
    """Return the tensors of an encoder of timm.

    Args:
        state: a checkpoint in the layout of timm's hub, or of Meta's DINOv3 repository.
        expected: names of the encoder's tensors.
        heads: names of the classifier's modules, which the encoder lacks.

    Returns:
        Name -> tensor, without copies. Tensors that the encoder is not known to leave out are kept, so that the loader
        refuses them.
    """
    if "storage_tokens" in state:
        state = _rename_meta_tensors(state, expected)
    state = drop_tensors(state, *_UNUSED, *heads)
    fixed = [name for name in state if name not in expected and _is_recomputed(name)]
    state = drop_tensors(state, *fixed)
    if "fc_norm.weight" in expected and "norm.weight" not in expected and "fc_norm.weight" not in state:
        # as in timm, the final norm of masked pre-training is used after pooling
        state = {re.sub(r"^norm\.", "fc_norm.", name): tensor for name, tensor in state.items()}
    return state


def _is_recomputed(name: str) -> bool:
    """Return whether a tensor follows from the shape of the network: rotary embeddings, position indices and masks."""
    return name.startswith("rope.") or name.endswith(
        ("relative_position_index", "relative_coords_table", ".attn_mask", ".attn.k_bias")
    )


def _rename_meta_tensors(state: State, expected: Collection[str]) -> dict[str, Tensor]:
    """Rename the tensors of a DINOv3 checkpoint of Meta.

    Its fused qkv bias is zero at the keys. timm has one bias for queries and one for values, or none in networks whose
    bias is zero everywhere. A bias that the encoder cannot represent is kept, so that the loader refuses it.
    """
    renamed: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if _META_UNUSED.match(name):
            continue
        if not name.endswith(".qkv.bias"):
            for old, new in _META_RENAMES.items():
                name = name.replace(old, new)
            renamed[name] = tensor
            continue
        attention = name.removesuffix("qkv.bias")
        query, key, value = tensor.chunk(3)
        if f"{attention}q_bias" in expected and not key.any():
            renamed |= {f"{attention}q_bias": query, f"{attention}v_bias": value}
        elif tensor.any():
            renamed[name] = tensor
    return renamed
