"""A timm transformer block, frozen, with low-rank additions, that keeps 10 widths of activations instead of 16.

Kept for the backward pass, in widths of (B, N, D): the input (1), q, k and v (3), the output of attention (1), the
input of the MLP (1) and its pre-activation (4). Both LayerNorm outputs (1 + 1) and the GELU's (4) are computed again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from torch import Tensor, nn
from torch.nn import functional as F

from rsft.peft.kernels.linear import Term, low_rank_linear
from rsft.peft.kernels.recompute import Gelu, Norm

_HOMES = {
    "Block": ("timm.models.vision_transformer",),
    "Attention": ("timm.layers.attention", "timm.models.vision_transformer"),
    "Mlp": ("timm.layers.mlp",),
}
_GELUS = {"GELU": "none", "GELUTanh": "tanh"}


def lean_block(
    block: nn.Module,
    x: Tensor,
    terms: Mapping[str, Sequence[Term]],
    *,
    split: int | None = None,
    training: bool = False,
    class_token_only: bool = False,
    read: bool = True,
) -> Tensor:
    """A frozen timm `Block` with low-rank additions; the same result and gradients as by plain autograd.

    Args:
        block: one that `why_not_lean` has nothing against.
        x: (B, N, D).
        terms: the additions at "qkv", "proj", "fc1" and "fc2".
        split: see `low_rank_linear`.
        training: whether the terms' dropout is on.
        class_token_only: compute the first token alone, which attends to all of them. For the last block of a network
            whose head reads nothing else this is exact, and a sixth of its work.
        read: whether anybody reads what is returned. In the second forward pass of a checkpointed block nobody does;
            then the last product is left out, a third of the work.

    Returns:
        (B, N, D), or (B, 1, D) if `class_token_only`.

    Raises:
        ValueError: a parameter of the block requires a gradient, which it would not get.
    """
    modules = cast(Any, block)
    attn, mlp = modules.attn, modules.mlp
    how: dict[str, Any] = {"split": split, "training": training}
    seen = x[:, :1] if class_token_only else x
    heads = _attend(attn, _norm(modules.norm1), x, terms.get("qkv", ()), class_token_only, **how)
    y = low_rank_linear(heads, attn.proj.weight, attn.proj.bias, terms.get("proj", ()), **how)
    seen = seen + modules.drop_path1(modules.ls1(attn.proj_drop(y)))
    y = _mlp(mlp, _norm(modules.norm2), seen, terms, read, **how)
    return cast(Tensor, seen + modules.drop_path2(modules.ls2(mlp.drop2(y))))


def why_not_lean(block: nn.Module) -> str | None:
    """None if `lean_block` can stand in for a block, otherwise the reason, for a person to read."""
    for path, home in (("", "Block"), ("attn", "Attention"), ("mlp", "Mlp")):
        part = block.get_submodule(path) if not path or hasattr(block, path) else None
        if type(part).__name__ != home or type(part).__module__ not in _HOMES[home]:
            return f"{path or 'the block'} is a {type(part).__name__}, not timm's standard {home}"
    modules = cast(Any, block)
    unusual = {
        "norm1": not isinstance(modules.norm1, nn.LayerNorm),
        "norm2": not isinstance(modules.norm2, nn.LayerNorm),
        "attn.gate": getattr(modules.attn, "gate", None) is not None,
        "attn.norm": not isinstance(getattr(modules.attn, "norm", nn.Identity()), nn.Identity),
        "mlp.norm": not isinstance(getattr(modules.mlp, "norm", nn.Identity()), nn.Identity),
        "mlp.act": type(modules.mlp.act).__name__ not in _GELUS,
        "mlp.drop1": modules.mlp.drop1.p > 0,
    }
    for layer in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"):
        unusual[layer] = type(block.get_submodule(layer)) is not nn.Linear
    for path, is_unusual in unusual.items():
        if is_unusual:
            return f"{path} is {block.get_submodule(path)}, which it has no gradient for"
    hooked = [name for name, module in block.named_modules() if module._forward_hooks or module._forward_pre_hooks]
    return f"{hooked[0] or 'the block'} has a forward hook, which it would not call" if hooked else None


def _attend(attn: Any, norm: Norm, x: Tensor, terms: Sequence[Term], class_token_only: bool, **how: Any) -> Tensor:
    """LayerNorm, query, key, value and attention: (B, N, D) -> the heads side by side, (B, N or 1, width)."""
    width = len(attn.qkv.weight) // 3

    def project(x: Tensor, rows: slice) -> Tensor:
        bias = None if attn.qkv.bias is None else attn.qkv.bias[rows]
        return low_rank_linear(x, attn.qkv.weight[rows], bias, _within(terms, rows, 3 * width), before=norm, **how)

    if class_token_only:
        parts = (project(x[:, :1], slice(0, width)), *project(x, slice(width, 3 * width)).chunk(2, -1))
    else:
        parts = project(x, slice(0, 3 * width)).chunk(3, -1)
    # views of one buffer, (B, heads, N, width of a head); nothing is copied
    q, k, v = (part.view(*part.shape[:-1], attn.num_heads, -1).transpose(1, 2) for part in parts)
    dropout = attn.attn_drop.p if attn.attn_drop.training else 0.0
    heads = F.scaled_dot_product_attention(attn.q_norm(q), attn.k_norm(k), v, dropout_p=dropout)
    return heads.transpose(1, 2).flatten(2)


def _within(terms: Sequence[Term], rows: slice, width: int) -> list[Term]:
    """Terms of a layer of `width` rows as terms of some of its rows."""
    parts = []
    for term in terms:
        start, stop, _ = term.rows.indices(width)
        first, last = max(start, rows.start), min(stop, rows.stop)
        if first < last:
            at = slice(first - rows.start, last - rows.start)
            parts.append(term._replace(rows=at, b=term.b[first - start : last - start]))
    return parts


def _mlp(mlp: Any, norm: Norm, x: Tensor, terms: Mapping[str, Sequence[Term]], read: bool, **how: Any) -> Tensor:
    """LayerNorm and MLP: (B, N, D) -> (B, N, D)."""
    gelu = Gelu(getattr(mlp.act, "approximate", _GELUS[type(mlp.act).__name__]))
    h = low_rank_linear(x, mlp.fc1.weight, mlp.fc1.bias, terms.get("fc1", ()), before=norm, **how)
    return low_rank_linear(h, mlp.fc2.weight, mlp.fc2.bias, terms.get("fc2", ()), before=gelu, read=read, **how)


def _norm(norm: nn.LayerNorm) -> Norm:
    return Norm(norm.weight, norm.bias, norm.eps)
