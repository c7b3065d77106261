"""The timm blocks that the kernel supports, and how to reach their layers.

Supported are `Block` of timm's VisionTransformer and `EvaBlock` of its Eva, with fused
or separate q, k and v, norms of queries, keys and the output of attention, LayerScale,
an MLP with GELU, or a SwiGLU with packed or separate layers.
"""

from operator import attrgetter
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


def unsupported_reason(block: nn.Module) -> str | None:
    """Return why `low_rank_block` cannot replace a block, or None if it can.

    Args:
        block: any module.

    Returns:
        A sentence, or None.
    """
    modules = dict(block.named_modules())
    for path, classes in _CLASSES.items():
        kind = type(modules.get(path))
        if f"{kind.__module__}.{kind.__qualname__}" not in classes:
            names = dict.fromkeys(name.rpartition(".")[2] for name in classes)
            return (
                f"{path or 'the block'} is a {kind.__name__}, not timm's standard"
                f" {' or '.join(names)}"
            )
    layers = cast(Any, block)
    unusual = _unusual_attention(layers) | _unusual_mlp(layers.mlp)
    for path, is_unusual in unusual.items():
        if is_unusual:
            return (
                f"{path} is {attrgetter(path)(block)}, which the kernel has no"
                " gradient for"
            )
    for name, module in modules.items():
        if module._forward_hooks or module._forward_pre_hooks:
            return (
                f"{name or 'the block'} has a forward hook, which the kernel would not"
                " call"
            )
    return None


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
        block: a block for which `unsupported_reason` returns None.
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


def _unusual_attention(block: Any) -> dict[str, bool]:
    """Return path -> whether the kernel has no gradient, for norms and attention."""
    attn = block.attn
    is_fused = getattr(attn, "qkv", None) is not None
    layers = ("qkv", "proj") if is_fused else ("q_proj", "k_proj", "v_proj", "proj")
    return {
        "norm1": not isinstance(block.norm1, nn.LayerNorm),
        "norm2": not isinstance(block.norm2, nn.LayerNorm),
        "attn.gate": getattr(attn, "gate", None) is not None,
        "attn.num_kv_groups": getattr(attn, "num_kv_groups", 1) > 1,
        "attn.norm": not isinstance(
            getattr(attn, "norm", nn.Identity()), nn.Identity | nn.LayerNorm
        ),
        **{
            f"attn.{name}": type(getattr(attn, name)) is not nn.Linear
            for name in layers
        },
    }


def _unusual_mlp(mlp: Any) -> dict[str, bool]:
    """Return path -> whether the kernel has no gradient, for the MLP."""
    kind = type(mlp).__name__
    is_gelu = kind == "Mlp"
    norms = nn.Identity if is_gelu else nn.Identity | nn.LayerNorm
    layers = ("fc1_g", "fc1_x", "fc2") if kind == "SwiGLU" else ("fc1", "fc2")
    return {
        "mlp.norm": not isinstance(getattr(mlp, "norm", nn.Identity()), norms),
        "mlp.act": type(mlp.act).__name__ not in (GELUS if is_gelu else ("SiLU",)),
        "mlp.gate_last": getattr(mlp, "gate_last", False),
        "mlp.drop1": mlp.drop1.p > 0,
        **{f"mlp.{name}": type(getattr(mlp, name)) is not nn.Linear for name in layers},
    }
