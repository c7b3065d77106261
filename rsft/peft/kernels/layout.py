"""The timm blocks that the kernel supports, and how to reach their layers.

Supported are `Block` of timm's VisionTransformer and `EvaBlock` of its Eva, with fused
or separate q, k and v, norms of queries, keys and the output of attention, LayerScale,
an MLP with GELU, or a SwiGLU with packed or separate layers.
"""

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

LAYER_PATHS = {
    "qkv": "attn.qkv",
    "q_proj": "attn.q_proj",
    "k_proj": "attn.k_proj",
    "v_proj": "attn.v_proj",
    "proj": "attn.proj",
    "fc1": "mlp.fc1",
    "fc2": "mlp.fc2",
}
"""Name -> path in a block, for the linear layers that can have additions."""

GELUS = {"GELU": "none", "GELUTanh": "tanh"}
"""Class of an activation -> approximation of GELU."""

_CLASSES = {
    "": ("timm.models.vision_transformer.Block", "timm.models.eva.EvaBlock"),
    "attn": (
        "timm.layers.attention.Attention",
        "timm.models.vision_transformer.Attention",  # of older versions
        "timm.layers.attention.AttentionRope",
        "timm.models.eva.EvaAttention",
    ),
    "mlp": (
        "timm.layers.mlp.Mlp",
        "timm.layers.mlp.GluMlp",
        "timm.layers.mlp.SwiGLU",
    ),
}


def is_standard_block(block: nn.Module) -> bool:
    """Return whether `low_rank_block` can replace a block."""
    modules = dict(block.named_modules())
    for path, classes in _CLASSES.items():
        kind = type(modules.get(path))
        if f"{kind.__module__}.{kind.__qualname__}" not in classes:
            return False
    # the kernel would not call a hook
    if any(x._forward_hooks or x._forward_pre_hooks for x in modules.values()):
        return False
    layers = cast(Any, block)
    norms = (layers.norm1, layers.norm2)
    return (
        all(isinstance(norm, nn.LayerNorm) for norm in norms)
        and _is_standard_attention(layers.attn)
        and _is_standard_mlp(layers.mlp)
    )


def layer_bias(layer_owner: Any, name: str) -> Tensor | None:
    """Return the bias of a linear layer.

    Args:
        layer_owner: the attention or the MLP of a block.
        name: name of the layer, such as "qkv". The fused layer of `EvaAttention` has
            its bias in three parts.

    Returns:
        (width_out,), or None.
    """
    if name == "qkv" and getattr(layer_owner, "q_bias", None) is not None:
        return torch.cat((layer_owner.q_bias, layer_owner.k_bias, layer_owner.v_bias))
    return cast(Tensor | None, getattr(layer_owner, name).bias)


def add_branch(block: Any, index: int, residual: Tensor, branch: Tensor) -> Tensor:
    """Add the output of attention (1) or of the MLP (2) to the residual stream.

    LayerScale and stochastic depth apply.

    Args:
        block: a block for which `is_standard_block` returns True.
        index: 1 or 2.
        residual: (B, N, D).
        branch: (B, N, D).

    Returns:
        (B, N, D).
    """
    if hasattr(block, f"ls{index}"):
        branch = getattr(block, f"ls{index}")(branch)
    elif getattr(block, f"gamma_{index}") is not None:
        branch = getattr(block, f"gamma_{index}") * branch
    return residual + cast(Tensor, getattr(block, f"drop_path{index}")(branch))


def _is_standard_attention(attn: Any) -> bool:
    """Return whether the kernel has a gradient for an attention."""
    names = ["q_proj", "k_proj", "v_proj", "proj"]
    if getattr(attn, "qkv", None) is not None:
        names = ["qkv", "proj"]
    norm = getattr(attn, "norm", nn.Identity())
    return (
        getattr(attn, "gate", None) is None
        and getattr(attn, "num_kv_groups", 1) == 1
        and isinstance(norm, nn.Identity | nn.LayerNorm)
        and _are_linear(attn, names)
    )


def _is_standard_mlp(mlp: Any) -> bool:
    """Return whether the kernel has a gradient for an MLP."""
    kind = type(mlp).__name__
    names = ["fc1_g", "fc1_x", "fc2"] if kind == "SwiGLU" else ["fc1", "fc2"]
    norm = getattr(mlp, "norm", nn.Identity())
    activation = type(mlp.act).__name__
    if kind == "Mlp":
        is_standard = isinstance(norm, nn.Identity) and activation in GELUS
    else:
        is_gated_first = not getattr(mlp, "gate_last", False)
        is_standard = activation == "SiLU" and is_gated_first
    has_dropout = mlp.drop1.p > 0
    return is_standard and not has_dropout and _are_linear(mlp, names)


def _are_linear(owner: Any, names: Sequence[str]) -> bool:
    """Return whether layers are plain linear layers."""
    return all(type(getattr(owner, name)) is nn.Linear for name in names)
