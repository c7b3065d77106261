"""Convert the tensors of torchvision's Swin and Swin V2 to the names of timm, whose networks compute the same.

torchvision's blocks pass the weights of qkv and proj to a function instead of calling the layers, so PEFT modules have
no effect in them. torchvision has one bias for queries, keys and values of a Swin V2 and sets that of the keys to zero
in each pass; timm has no bias for keys.
"""

from __future__ import annotations

import re

from torch import Tensor

from rsft.backbones.card import State, drop_tensors

TIMM_NAMES = {
    "swin_t": "swin_tiny_patch4_window7_224",
    "swin_s": "swin_small_patch4_window7_224",
    "swin_b": "swin_base_patch4_window7_224",
    "swin_v2_t": "swinv2_tiny_window8_256",
    "swin_v2_s": "swinv2_small_window8_256",
    "swin_v2_b": "swinv2_base_window8_256",
}
"""timm's name of each network of torchvision."""

_RENAMES = ((".mlp.0.", ".mlp.fc1."), (".mlp.3.", ".mlp.fc2."))
_COMPUTED = (".relative_position_index", ".relative_coords_table")  # they follow from the size of the windows


def convert_torchvision_swin(state: State) -> dict[str, Tensor]:
    """Return the tensors of a Swin of torchvision under timm's names, without its head.

    Args:
        state: a checkpoint of torchvision's `SwinTransformer`.

    Returns:
        Name -> tensor, without copies. Unknown tensors keep their names, so that the loader refuses them.
    """
    is_v2 = any(name.endswith(".logit_scale") for name in state)
    converted: dict[str, Tensor] = {}
    for name, tensor in drop_tensors(state, "head").items():
        if name.endswith(_COMPUTED):
            continue
        new_name = _rename(name)
        if is_v2 and new_name.endswith(".attn.qkv.bias"):
            attention = new_name.removesuffix("qkv.bias")
            query, _, value = tensor.chunk(3)
            converted |= {f"{attention}q_bias": query, f"{attention}v_bias": value}
        else:
            converted[new_name] = tensor
    return converted


def _rename(name: str) -> str:
    """Return timm's name of a tensor: features 0 is the embedding, odd ones are stages, even ones merge patches."""
    match = re.fullmatch(r"features\.(\d+)\.(.+)", name)
    if match is None:
        return name
    index, remainder = int(match[1]), match[2]
    if index == 0:
        return re.sub(r"^2\.", "patch_embed.norm.", re.sub(r"^0\.", "patch_embed.proj.", remainder))
    if index % 2 == 0:
        return f"layers.{index // 2}.downsample.{remainder}"
    block_name = f"layers.{index // 2}.blocks.{remainder}"
    for old, new in _RENAMES:
        block_name = block_name.replace(old, new)
    return block_name
