"""A frozen timm transformer block with low-rank additions that stores 10 widths of activations instead of 16.

It stores these tensors for the backward pass, counted in widths of (B, N, D): the input (1), q, k and v (3), the output
of attention (1), the input of the MLP (1) and its pre-activation (4). It computes both LayerNorm outputs (1 + 1) and
the output of the GELU (4) again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from torch import Tensor, nn
from torch.nn import functional as F

from rsft.peft.kernels.linear import LowRankDelta, low_rank_linear
from rsft.peft.kernels.recompute import GeluPrologue, LayerNormPrologue

_STANDARD_MODULES = {
    "Block": ("timm.models.vision_transformer",),
    "Attention": ("timm.layers.attention", "timm.models.vision_transformer"),
    "Mlp": ("timm.layers.mlp",),
}
_GELUS = {"GELU": "none", "GELUTanh": "tanh"}


def low_rank_block(
    block: nn.Module,
    x: Tensor,
    deltas: Mapping[str, Sequence[LowRankDelta]],
    *,
    split: int | None = None,
    training: bool = False,
    class_token_only: bool = False,
    needs_output: bool = True,
) -> Tensor:
    """Apply a frozen timm `Block` with low-rank additions; output and gradients equal those of plain autograd.

    Args:
        block: a block for which `unsupported_reason` returns None.
        x: tokens (B, N, D).
        deltas: the additions at "qkv", "proj", "fc1" and "fc2".
        split: see `low_rank_linear`.
        training: whether the dropout of the additions is on.
        class_token_only: compute only the first token, which attends to all tokens. In the last block of a network with
            a head on the class token this is exact, and takes a sixth of the time.
        needs_output: whether the caller reads the result. The second forward pass of a checkpointed block does not, and
            saves the last matrix product, a third of the work.

    Returns:
        Tokens (B, N, D), or (B, 1, D) if `class_token_only`.

    Raises:
        ValueError: a parameter of the block requires a gradient, which this function does not compute.
    """
    modules = cast(Any, block)
    attn, mlp = modules.attn, modules.mlp
    options: dict[str, Any] = {"split": split, "training": training}
    norm, width, qkv_deltas = _norm_prologue(modules.norm1), len(attn.qkv.weight), deltas.get("qkv", ())

    def project(x: Tensor, rows: slice) -> Tensor:
        bias = None if attn.qkv.bias is None else attn.qkv.bias[rows]
        row_deltas = _select_rows(qkv_deltas, rows, width)
        return low_rank_linear(x, attn.qkv.weight[rows], bias, row_deltas, prologue=norm, **options)

    residual = x[:, :1] if class_token_only else x
    heads = attend(attn, x, project, class_token_only)
    y = low_rank_linear(heads, attn.proj.weight, attn.proj.bias, deltas.get("proj", ()), **options)
    residual = residual + modules.drop_path1(modules.ls1(attn.proj_drop(y)))
    y = _mlp(mlp, _norm_prologue(modules.norm2), residual, deltas, needs_output, **options)
    return cast(Tensor, residual + modules.drop_path2(modules.ls2(mlp.drop2(y))))


def class_token_block(block: nn.Module, x: Tensor) -> Tensor:
    """Compute only the first output token of a timm `Block` in evaluation mode; it attends to all tokens.

    The function uses only torch's own operators, so that `torch.export` can trace it.

    Args:
        block: a block for which `unsupported_reason` returns None.
        x: tokens (B, N, D).

    Returns:
        The first token, (B, 1, D).
    """
    modules = cast(Any, block)
    attn = modules.attn

    def project(x: Tensor, rows: slice) -> Tensor:
        return F.linear(x, attn.qkv.weight[rows], None if attn.qkv.bias is None else attn.qkv.bias[rows])

    heads = attend(attn, modules.norm1(x), project, class_token_only=True)
    token = x[:, :1] + modules.ls1(attn.proj(heads))
    return cast(Tensor, token + modules.ls2(modules.mlp(modules.norm2(token))))


def attend(attn: Any, x: Tensor, project: Callable[[Tensor, slice], Tensor], class_token_only: bool) -> Tensor:
    """Compute the outputs of the attention heads of a timm `Attention`.

    Args:
        attn: the attention module, with a fused qkv layer.
        x: tokens (B, N, D).
        project: applies the given rows of the qkv layer to tokens.
        class_token_only: compute only the query of the first token.

    Returns:
        The outputs of the heads side by side, (B, N, D), or (B, 1, D) if `class_token_only`.
    """
    width = attn.qkv.weight.shape[0] // 3
    if class_token_only:
        parts = (project(x[:, :1], slice(0, width)), *project(x, slice(width, 3 * width)).chunk(2, -1))
    else:
        parts = project(x, slice(0, 3 * width)).chunk(3, -1)
    # views of one buffer, (B, heads, N, width of a head); nothing is copied
    q, k, v = (part.view(*part.shape[:-1], attn.num_heads, -1).transpose(1, 2) for part in parts)
    dropout = attn.attn_drop.p if attn.attn_drop.training else 0.0
    heads = F.scaled_dot_product_attention(attn.q_norm(q), attn.k_norm(k), v, dropout_p=dropout)
    return heads.transpose(1, 2).flatten(2)


def unsupported_reason(block: nn.Module) -> str | None:
    """Return why `low_rank_block` cannot replace a block, or None if it can.

    Args:
        block: any module.

    Returns:
        A sentence, or None.
    """
    for path, class_name in (("", "Block"), ("attn", "Attention"), ("mlp", "Mlp")):
        module = block.get_submodule(path) if not path or hasattr(block, path) else None
        if type(module).__name__ != class_name or type(module).__module__ not in _STANDARD_MODULES[class_name]:
            return f"{path or 'the block'} is a {type(module).__name__}, not timm's standard {class_name}"
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
            return f"{path} is {block.get_submodule(path)}, which the kernel has no gradient for"
    hooked = [name for name, module in block.named_modules() if module._forward_hooks or module._forward_pre_hooks]
    return f"{hooked[0] or 'the block'} has a forward hook, which the kernel would not call" if hooked else None


def _select_rows(deltas: Sequence[LowRankDelta], rows: slice, width: int) -> list[LowRankDelta]:
    """Return the parts of the additions that act on `rows` of a layer with `width` rows."""
    selected = []
    for delta in deltas:
        start, stop, _ = delta.rows.indices(width)
        first, last = max(start, rows.start), min(stop, rows.stop)
        if first < last:
            new_rows = slice(first - rows.start, last - rows.start)
            selected.append(delta._replace(rows=new_rows, b=delta.b[first - start : last - start]))
    return selected


def _mlp(
    mlp: Any,
    norm: LayerNormPrologue,
    x: Tensor,
    deltas: Mapping[str, Sequence[LowRankDelta]],
    needs_output: bool,
    **options: Any,
) -> Tensor:
    """Apply LayerNorm and MLP, (B, N, D) -> (B, N, D)."""
    gelu = GeluPrologue(getattr(mlp.act, "approximate", _GELUS[type(mlp.act).__name__]))
    hidden = low_rank_linear(x, mlp.fc1.weight, mlp.fc1.bias, deltas.get("fc1", ()), prologue=norm, **options)
    options |= {"prologue": gelu, "needs_output": needs_output}
    return low_rank_linear(hidden, mlp.fc2.weight, mlp.fc2.bias, deltas.get("fc2", ()), **options)


def _norm_prologue(norm: nn.LayerNorm) -> LayerNormPrologue:
    return LayerNormPrologue(norm.weight, norm.bias, norm.eps)
