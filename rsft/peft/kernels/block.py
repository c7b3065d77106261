"""A frozen timm transformer block with low-rank additions.

It stores 10 widths of activations instead of 16.

It stores these tensors for the backward pass, counted in widths of (B, N, D): the input
(1), q, k and v (3), the output of attention (1), the input of the MLP (1) and its
pre-activation (4). It computes both LayerNorm outputs (1 + 1) and the output of the
GELU (4) again. A SwiGLU of hidden width h stores the outputs of its first layers (2h /
D) and computes their product again. Rotary embeddings turn queries and keys before they
are stored.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rsft.peft.kernels.layout import GELUS, add_branch, layer_bias
from rsft.peft.kernels.linear import low_rank_linear
from rsft.peft.kernels.packing import LowRankDelta
from rsft.peft.kernels.recompute import (
    GeluPrologue,
    LayerNormPrologue,
    Prologue,
    SwiGluPrologue,
)

_ALL_ROWS = slice(None)
# the attention weights are then less than half of what a block stores beside them
_MAX_STORED_TOKENS = 256


_Linear = Callable[..., Tensor]
"""Returns (owner, name, x, rows) -> the output of rows of a layer."""


def low_rank_block(
    block: nn.Module,
    x: Tensor,
    deltas: Mapping[str, Sequence[LowRankDelta]],
    *,
    rope: Tensor | None = None,
    split: int | None = None,
    class_token_only: bool = False,
    needs_output: bool = True,
    kernels: bool | None = None,
) -> Tensor:
    """Apply a frozen timm block with low-rank additions.

    Output and gradients equal those of plain autograd.

    Args:
        block: a block for which `is_standard_block` returns True.
        x: tokens (B, N, D).
        deltas: the additions at "qkv" (or "q_proj", "k_proj" and "v_proj"), "proj",
            "fc1" and "fc2".
        rope: rotary embeddings of the patches, as the block takes them.
        split: see `low_rank_linear`.
        class_token_only: compute only the first token, which attends to all tokens. In
            the last block of a network with a head on the class token this is exact,
            and takes a sixth of the time.
        needs_output: whether the caller reads the result. The second forward pass of a
            checkpointed block does not, and saves the last matrix product, a third of
            the work.
        kernels: see `low_rank_linear`. Plain autograd stores 16 widths of activations.

    Returns:
        Tokens (B, N, D), or (B, 1, D) if `class_token_only`.

    Raises:
        ValueError: a parameter of the block requires a gradient, which this function
            does not compute.
    """
    modules = cast(Any, block)

    def linear_after(prologue: Prologue | None, needs_output: bool = True) -> _Linear:
        def linear(owner: Any, name: str, x: Tensor, rows: slice = _ALL_ROWS) -> Tensor:
            weight = getattr(owner, name).weight
            bias = layer_bias(owner, name)
            return low_rank_linear(
                x,
                weight[rows],
                None if bias is None else bias[rows],
                _select_rows(deltas.get(name, ()), rows, len(weight)),
                split=split,
                prologue=prologue,
                needs_output=needs_output,
                kernels=kernels,
            )

        return linear

    attn = modules.attn
    residual = x[:, :1] if class_token_only else x
    q, k, v = _project(
        attn, x, linear_after(_norm_prologue(modules.norm1)), class_token_only
    )
    heads = attend(attn, q, k, v, rope)
    y = attn.proj_drop(
        linear_after(_norm_prologue(getattr(attn, "norm", None)))(attn, "proj", heads)
    )
    residual = add_branch(modules, 1, residual, y)
    y = _mlp(
        modules.mlp, residual, _norm_prologue(modules.norm2), linear_after, needs_output
    )
    return add_branch(modules, 2, residual, modules.mlp.drop2(y))


def class_token_block(
    block: nn.Module, x: Tensor, rope: Tensor | None = None
) -> Tensor:
    """Compute only the first output token of a timm block in evaluation mode.

    The token attends to all tokens.

    The function uses only torch's own operators, so that `torch.export` can trace it.

    Args:
        block: a block for which `is_standard_block` returns True.
        x: tokens (B, N, D).
        rope: rotary embeddings of the patches, as the block takes them.

    Returns:
        The first token, (B, 1, D).
    """
    modules = cast(Any, block)
    attn = modules.attn

    def linear(owner: Any, name: str, x: Tensor, rows: slice = _ALL_ROWS) -> Tensor:
        bias = layer_bias(owner, name)
        return F.linear(
            x, getattr(owner, name).weight[rows], None if bias is None else bias[rows]
        )

    heads = attend(
        attn, *_project(attn, modules.norm1(x), linear, class_token_only=True), rope
    )
    if hasattr(attn, "norm"):
        heads = attn.norm(heads)
    token = add_branch(modules, 1, x[:, :1], attn.proj(heads))
    return add_branch(modules, 2, token, modules.mlp(modules.norm2(token)))


def attend(attn: Any, q: Tensor, k: Tensor, v: Tensor, rope: Tensor | None) -> Tensor:
    """Compute the outputs of the attention heads.

    Args:
        attn: an attention module of timm.
        q: queries (B, Q, W) of the first Q tokens; Q is 1 or N.
        k: keys (B, N, W).
        v: values (B, N, W).
        rope: rotary embeddings of the tokens after the prefix tokens.

    Returns:
        The outputs of the heads side by side, (B, Q, W).
    """
    # views, (B, N, heads, width of a head); nothing is copied
    q = q.view(*q.shape[:-1], attn.num_heads, -1)
    k = k.view(*k.shape[:-1], attn.num_heads, -1)
    v = v.view(*v.shape[:-1], attn.num_heads, -1)
    q = attn.q_norm(q)
    k = attn.k_norm(k)
    if rope is not None:
        q = _rotate(attn, q, rope).type_as(v)
        k = _rotate(attn, k, rope).type_as(v)
        # else the backward pass would store the buffer of q, k and v as well
        v = v.contiguous()
    q = q.transpose(1, 2)
    k = k.transpose(1, 2)
    v = v.transpose(1, 2)
    dropout = attn.attn_drop.p if attn.attn_drop.training else 0.0
    return _attention(q, k, v, dropout).transpose(1, 2).flatten(2)


def _attention(q: Tensor, k: Tensor, v: Tensor, dropout: float) -> Tensor:
    """Compute scaled dot-product attention.

    Queries are (B, H, Q, D), keys and values (B, H, N, D).

    On a CPU, the gradient of torch's fused attention in bfloat16 takes two to five
    times as long as batched products. These store the attention weights, N numbers for
    each head and query, so they are left to torch for many tokens.
    """
    trains = torch.is_grad_enabled() and any(part.requires_grad for part in (q, k, v))
    is_slow = (
        q.device.type == "cpu"
        and q.dtype == torch.bfloat16
        and k.shape[-2] <= _MAX_STORED_TOKENS
    )
    if not (trains and is_slow):
        return F.scaled_dot_product_attention(q, k, v, dropout_p=dropout)
    weights = torch.softmax((q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1), -1)
    return F.dropout(weights, dropout) @ v


def _project(
    attn: Any, x: Tensor, linear: _Linear, class_token_only: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return queries (B, Q, W), keys and values (B, N, W).

    With `class_token_only`, only the first token has a query.
    """
    first = x[:, :1] if class_token_only else x
    if getattr(attn, "qkv", None) is None:
        return (
            linear(attn, "q_proj", first),
            linear(attn, "k_proj", x),
            linear(attn, "v_proj", x),
        )
    width = len(attn.qkv.weight) // 3
    if not class_token_only:
        # the gradient of a chunk has the size of all chunks
        qkv = linear(attn, "qkv", x)
        q, k, v = torch.unflatten(qkv, -1, (3, width)).unbind(-2)
        return q, k, v
    # first: the order decides the random numbers of the dropout
    q = linear(attn, "qkv", first, slice(0, width))
    kv = linear(attn, "qkv", x, slice(width, 3 * width))
    k, v = torch.unflatten(kv, -1, (2, width)).unbind(-2)
    return q, k, v


def _rotate(attn: Any, x: Tensor, rope: Tensor) -> Tensor:
    """Turn queries or keys (B, N, heads, width) by the position of their patch.

    Prefix tokens have no position.
    """
    prefix = attn.num_prefix_tokens
    if x.shape[1] <= prefix:
        return x
    # one for all heads, or one for each head
    if rope.ndim == 2:
        rope = rope.unsqueeze(-2)
    else:
        rope = rope.transpose(-3, -2)
    patches = x[:, prefix:]
    sin, cos = rope.chunk(2, -1)
    if getattr(attn, "rotate_half", False):  # pairs are width / 2 apart
        first, second = patches.chunk(2, -1)
        turned = torch.cat([-second, first], dim=-1)
    else:  # pairs are neighbors
        turned = torch.stack([-patches[..., 1::2], patches[..., ::2]], dim=-1).flatten(
            -2
        )
    return torch.cat([x[:, :prefix], (patches * cos + turned * sin).type_as(x)], dim=1)


def _select_rows(
    deltas: Sequence[LowRankDelta], rows: slice, width: int
) -> list[LowRankDelta]:
    """Return the additions' parts that act on `rows` of a layer with `width` rows."""
    if rows == _ALL_ROWS:
        return list(deltas)
    selected = []
    from_row, to_row, _ = rows.indices(width)
    for delta in deltas:
        start, stop, _ = delta.rows.indices(width)
        first, last = max(start, from_row), min(stop, to_row)
        if first < last:
            new_rows = slice(first - from_row, last - from_row)
            selected.append(
                delta._replace(rows=new_rows, b=delta.b[first - start : last - start])
            )
    return selected


def _mlp(
    mlp: Any,
    x: Tensor,
    norm: LayerNormPrologue | None,
    linear_after: Callable[[Prologue | None, bool], _Linear],
    needs_output: bool,
) -> Tensor:
    """Apply LayerNorm and MLP, (B, N, D) -> (B, N, D)."""
    first = linear_after(norm, True)
    if type(mlp).__name__ == "SwiGLU":
        hidden = torch.cat([first(mlp, "fc1_g", x), first(mlp, "fc1_x", x)], dim=-1)
    else:
        hidden = first(mlp, "fc1", x)
    if type(mlp).__name__ == "Mlp":
        activation: Prologue = GeluPrologue(
            getattr(mlp.act, "approximate", GELUS[type(mlp.act).__name__])
        )
    else:
        activation = SwiGluPrologue(_norm_prologue(mlp.norm))
    return linear_after(activation, needs_output)(mlp, "fc2", hidden)


def _norm_prologue(norm: nn.Module | None) -> LayerNormPrologue | None:
    if isinstance(norm, nn.LayerNorm):
        return LayerNormPrologue(norm.weight, norm.bias, norm.eps)
    return None
