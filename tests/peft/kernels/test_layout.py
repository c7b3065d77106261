"""The kernel on the other layouts of timm's blocks: rotary embeddings, prefix tokens,
LayerScale, SwiGLU, inner norms.

The reference is timm's own block with a plain module in the place of every linear
layer.
"""

from functools import partial

import pytest
import torch
from timm.layers import LayerNorm, SwiGLU, SwiGLUPacked
from timm.models.eva import EvaBlock, EvaBlockPostNorm
from timm.models.vision_transformer import Block
from torch import nn
from torch.autograd import gradcheck
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional as F

from rsft.peft.kernels import (
    LowRankDelta,
    class_token_block,
    is_standard_block,
    low_rank_block,
)
from tests.helpers.versions import needs

B = 3
PREFIX = 2
PATCHES = 4
D = 8
HEADS = 2
EVA = {"qkv_bias": False, "norm_layer": LayerNorm, "num_prefix_tokens": PREFIX}
KINDS = {
    "DINOv3": (EvaBlock, EVA | {"init_values": 0.3, "rotate_half": True}),
    "DINOv3 with qkv bias": (
        EvaBlock,
        EVA | {"init_values": 0.3, "rotate_half": True, "qkv_bias": True},
    ),
    "EVA-02 small": (EvaBlock, EVA | {"qkv_bias": True, "swiglu_mlp": True}),
    "EVA-02 base": (
        EvaBlock,
        EVA
        | {
            "qkv_bias": True,
            "qkv_fused": False,
            "swiglu_mlp": True,
            "scale_mlp": True,
        },
    ),
    "EVA-02 CLIP": (
        EvaBlock,
        EVA | {"scale_attn_inner": True, "swiglu_mlp": True, "scale_mlp": True},
    ),
    "rotary attention, QK norm": (
        EvaBlock,
        EVA | {"attn_type": "rope", "qkv_bias": True, "qk_norm": True},
    ),
    "LayerScale at attention": (
        EvaBlock,
        EVA | {"init_values": 0.3, "attn_only_layer_scale": True},
    ),
    "packed SwiGLU": (
        Block,
        {"norm_layer": LayerNorm, "mlp_layer": SwiGLUPacked, "act_layer": nn.SiLU},
    ),
    "SwiGLU": (
        Block,
        {"norm_layer": LayerNorm, "mlp_layer": SwiGLU, "act_layer": nn.SiLU},
    ),
    "norm after attention": (Block, {"norm_layer": LayerNorm, "scale_attn_norm": True}),
}
EACH = pytest.mark.parametrize("kind", KINDS)
FLOAT32 = pytest.param(torch.float32, marks=pytest.mark.exhaustive)
TOKEN = pytest.mark.parametrize(
    "class_token_only", [False, True], ids=["", "class token"]
)


def make_block(kind, dtype=torch.float64, width=D):
    block_class, options = KINDS[kind]
    torch.manual_seed(0)
    block = block_class(width, HEADS, **options).to(dtype).eval()
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.3)
    return block.requires_grad_(False)


def rope_for(block, dtype=torch.float64):
    """Return sines and cosines of random angles, (patches, 2 * width of a head); None
    for a block without them."""
    if not isinstance(block, EvaBlock):
        return None
    torch.manual_seed(4)
    head = block.attn.proj.in_features // HEADS
    angles = torch.randn(PATCHES, head // 2, dtype=dtype)
    angles = (
        torch.cat([angles, angles], -1)
        if block.attn.rotate_half
        else angles.repeat_interleave(2, -1)
    )
    return torch.cat([angles.sin(), angles.cos()], -1)


def linear_layers(block):
    named = {
        "qkv": "attn",
        "q_proj": "attn",
        "k_proj": "attn",
        "v_proj": "attn",
        "proj": "attn",
        "fc1": "mlp",
    }
    owners = {
        name: getattr(block, owner) for name, owner in (named | {"fc2": "mlp"}).items()
    }
    layers = {name: getattr(owner, name, None) for name, owner in owners.items()}
    return {name: layer for name, layer in layers.items() if layer is not None}


def leaves(block, dtype=torch.float64):
    """x, then a, b, m of every layer; the addition to a fused layer has the rows of q
    and half of those of k."""
    torch.manual_seed(1)
    shapes = [(B, PREFIX + PATCHES, block.attn.proj.out_features)]
    for name, layer in linear_layers(block).items():
        rows = layer.out_features // 2 if name == "qkv" else layer.out_features
        shapes += [(2, layer.in_features), (rows, 2), ()]
    return [
        (torch.randn(shape, dtype=dtype) * 0.5).requires_grad_() for shape in shapes
    ]


def deltas(block, abm):
    names = linear_layers(block)
    parts = zip(names, abm[::3], abm[1::3], abm[2::3], strict=True)
    return {name: [LowRankDelta(slice(0, len(b)), a, b, m)] for name, a, b, m in parts}


class Plain(nn.Module):
    """A linear layer with its additions in plain torch."""

    def __init__(self, layer, delta):
        super().__init__()
        self.layer = layer
        self.delta = delta

    def forward(self, x):
        y = self.layer(x)
        _, a, b, m, *_ = self.delta
        return y + F.pad(F.linear(F.linear(x, a) * m, b), (0, y.shape[-1] - len(b)))


def plain(block, x, by_layer, **kwargs):
    if hasattr(block.attn, "qkv_bias_separate"):
        block.attn.qkv_bias_separate = (
            True  # else timm reads the weight and does not call the layer
        )
    for name, layer in linear_layers(block).items():
        owner = block.attn if hasattr(block.attn, name) else block.mlp
        setattr(owner, name, Plain(layer, by_layer[name][0]))
    return block(x, **kwargs)


def gradients(y, inputs):
    weights = torch.randn(
        y.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2)
    )
    return torch.autograd.grad((y * weights.to(y.dtype)).sum(), inputs)


def rope_kwargs(block, dtype=torch.float64):
    rope = rope_for(block, dtype)
    return {} if rope is None else {"rope": rope}


@EACH
@TOKEN
@pytest.mark.parametrize("dtype", [torch.float64, FLOAT32], ids=str)
def test_outputs_and_gradients_match_timm(kind, class_token_only, dtype):
    block = make_block(kind, dtype)
    assert is_standard_block(block)
    x, *abm = leaves(block, dtype)
    kwargs = rope_kwargs(block, dtype)
    actual = low_rank_block(
        block, x, deltas(block, abm), class_token_only=class_token_only, **kwargs
    )
    reference = plain(make_block(kind, dtype), x, deltas(block, abm), **kwargs)[
        :, : actual.shape[1]
    ]
    torch.testing.assert_close(actual, reference)
    torch.testing.assert_close(
        gradients(actual, [x, *abm]), gradients(reference, [x, *abm])
    )


@EACH
@TOKEN
@pytest.mark.parametrize("split", [None, 2])
def test_kernels_and_plain_autograd_agree(kind, class_token_only, split):
    block = make_block(kind)
    inputs = leaves(block)
    options = {
        "class_token_only": class_token_only,
        "split": split,
        **rope_kwargs(block),
    }
    ours = low_rank_block(
        block, inputs[0], deltas(block, inputs[1:]), kernels=True, **options
    )
    reference = low_rank_block(
        block, inputs[0], deltas(block, inputs[1:]), kernels=False, **options
    )
    torch.testing.assert_close(ours, reference)
    torch.testing.assert_close(gradients(ours, inputs), gradients(reference, inputs))


@EACH
@TOKEN
def test_gradients_match_finite_differences(kind, class_token_only):
    block = make_block(kind)
    x, *abm = leaves(block)
    run = partial(
        low_rank_block, class_token_only=class_token_only, **rope_kwargs(block)
    )
    assert gradcheck(
        lambda x, *abm: run(block, x, deltas(block, abm)), (x, *abm), fast_mode=True
    )


@EACH
def test_split_gives_both_gradients_in_one_pass(kind):
    block = make_block(kind)
    x, *abm = leaves(block)
    kwargs = rope_kwargs(block)
    joint = low_rank_block(block, x, deltas(block, abm), split=2, **kwargs)
    inner = low_rank_block(block, x[:2], deltas(block, abm), **kwargs)
    meta = low_rank_block(block, x[2:], deltas(block, abm), **kwargs)
    theta = [p for p in abm if p.ndim]
    gamma = [p for p in abm if not p.ndim]
    expected = [
        *torch.autograd.grad(inner.sum(), theta),
        *torch.autograd.grad(meta.sum(), gamma),
    ]
    torch.testing.assert_close(
        [*torch.autograd.grad(joint.sum(), [*theta, *gamma])], expected
    )


@EACH
def test_the_class_token_alone_equals_that_of_timm(kind):
    block = make_block(kind)
    x = leaves(block)[0]
    kwargs = rope_kwargs(block)
    torch.testing.assert_close(
        class_token_block(block, x, **kwargs), block(x, **kwargs)[:, :1]
    )


@EACH
def test_under_bfloat16_autocast_it_equals_timm_within_rounding(kind):
    block = make_block(kind, torch.float32)
    x, *abm = leaves(block, torch.float32)
    kwargs = rope_kwargs(block, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        actual = low_rank_block(block, x, deltas(block, abm), **kwargs)
        reference = plain(
            make_block(kind, torch.float32), x, deltas(block, abm), **kwargs
        )
    assert actual.dtype == reference.dtype == torch.float32
    torch.testing.assert_close(actual, reference, rtol=0.05, atol=0.15)
    assert all(gradient.isfinite().all() for gradient in gradients(actual, [x, *abm]))


@pytest.mark.parametrize(
    ("kind", "widths"), [("DINOv3", 10), ("EVA-02 small", 14), ("packed SwiGLU", 10)]
)
def test_rotary_embeddings_store_no_more_than_before(kind, widths):
    """Queries and keys are stored after their rotation only; a SwiGLU stores gate and
    value."""
    block = make_block(kind, torch.float32, 64)
    width = 64
    x = torch.randn(4, PREFIX + PATCHES, width, requires_grad=True)
    a = torch.randn(1, width, requires_grad=True)
    b = torch.randn(3 * width, 1, requires_grad=True)
    stored: list[torch.Tensor] = []
    with saved_tensors_hooks(stored.append, lambda _: None):
        low_rank_block(
            block,
            x,
            {"qkv": [LowRankDelta(slice(None), a, b, 1.0)]},
            **rope_kwargs(block, torch.float32),
        )
    sizes = {
        t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in stored
    }
    frozen = {p.untyped_storage().data_ptr() for p in block.parameters()}
    thin = sum(size for address, size in sizes.items() if address not in frozen) / (
        4 * x.numel()
    )
    assert widths <= thin < widths + 0.8  # sines and cosines, statistics, x A^T, A, B


@pytest.mark.parametrize(
    "block",
    [
        pytest.param(
            lambda: EvaBlock(D, HEADS, gated_attn=True, norm_layer=LayerNorm),
            marks=needs("timm", "1.0.28"),
        ),
        lambda: EvaBlock(
            D,
            HEADS,
            attn_type="rope",
            num_kv_heads=1,
            qkv_fused=False,
            norm_layer=LayerNorm,
        ),
        lambda: EvaBlockPostNorm(D, HEADS),
    ],
)
def test_other_blocks_are_not_standard(block):
    assert not is_standard_block(block())
