from functools import partial

import pytest
import torch
from timm.layers import GluMlp, LayerNorm, RmsNorm
from timm.models.beit import Block as BeitBlock
from timm.models.vision_transformer import Block
from torch import nn
from torch.autograd import gradcheck
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from rsft.peft.kernels import (
    LowRankDelta,
    is_standard_block,
    low_rank_block,
    low_rank_linear,
)
from rsft.peft.kernels import block as kernels_block
from rsft.peft.kernels.buffer_pool import default_pool
from tests.helpers.closeness import close

B = 3
N = 5
D = 8
HEADS = 2
KINDS = {
    "plain": {},
    "layer scale": {"init_values": 0.3},
    "QK norm": {"qk_norm": True},
    "no bias": {"qkv_bias": False, "proj_bias": False},
    "tanh": {"act_layer": partial(nn.GELU, approximate="tanh")},
}
FLOAT32 = pytest.param(torch.float32, marks=pytest.mark.exhaustive)
# layer, rows of its output, width of its input: q and v apart, all of proj, half of
# fc1, all of fc2
SITES = [
    ("qkv", slice(0, D), D),
    ("qkv", slice(2 * D, 3 * D), D),
    ("proj", slice(None), D),
    ("fc1", slice(D, 3 * D), D),
    ("fc2", slice(None), 4 * D),
]
ROWS = [D, D, D, 2 * D, D]


@pytest.fixture(autouse=True)
def small_tensors_use_the_pool_too(monkeypatch):
    monkeypatch.setattr(default_pool, "smallest", 0)


def block(dtype=torch.float64, width=D, **kind):
    torch.manual_seed(0)
    timm_block = (
        Block(width, HEADS, **({"qkv_bias": True, "norm_layer": LayerNorm} | kind))
        .to(dtype)
        .eval()
    )
    for parameter in timm_block.parameters():
        nn.init.normal_(parameter, std=0.3)
    return timm_block.requires_grad_(False)


def leaves(dtype=torch.float64):
    """x, then a, b, m of every site."""
    torch.manual_seed(1)
    shapes = [
        s
        for (_, _, width), rows in zip(SITES, ROWS, strict=True)
        for s in ((2, width), (rows, 2), ())
    ]
    return [
        (torch.randn(s, dtype=dtype) * 0.5).requires_grad_()
        for s in [(B, N, D), *shapes]
    ]


def deltas(abm, dropout=0.0):
    by_layer: dict[str, list[LowRankDelta]] = {}
    for (layer, rows, _), a, b, m in zip(
        SITES, abm[::3], abm[1::3], abm[2::3], strict=True
    ):
        by_layer.setdefault(layer, []).append(LowRankDelta(rows, a, b, m, dropout))
    return by_layer


class Plain(nn.Module):
    """A linear layer and its deltas in plain torch; the split detaches untrained
    parameters."""

    def __init__(self, layer, added, split):
        super().__init__()
        self.layer = layer
        self.added = added
        self.split = split

    def forward(self, x):
        y = self.layer(x)
        for rows, a, b, m, *_ in self.added:
            whole = F.linear(F.linear(x, a) * m, b)
            if self.split is not None:
                inner = F.linear(F.linear(x[: self.split], a) * m.detach(), b)
                meta = F.linear(F.linear(x[self.split :], a.detach()) * m, b.detach())
                whole = torch.cat([inner, meta])
            first, last, _ = rows.indices(y.shape[-1])
            y = y + F.pad(whole, (first, y.shape[-1] - last))
        return y


def plain(timm_block, x, deltas_by_layer, split=None):
    """Run timm's forward pass with every layer replaced by `Plain`."""
    attention = timm_block.attn
    mlp = timm_block.mlp
    for parent, name in (
        (attention, "qkv"),
        (attention, "proj"),
        (mlp, "fc1"),
        (mlp, "fc2"),
    ):
        setattr(
            parent,
            name,
            Plain(getattr(parent, name), deltas_by_layer.get(name, ()), split),
        )
    return timm_block(x)


def gradients(y, inputs):
    weights = torch.randn(
        y.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2)
    )
    return torch.autograd.grad((y * weights.to(y.dtype)).sum(), inputs)


@pytest.mark.parametrize("class_token_only", [False, True], ids=["", "class token"])
@pytest.mark.parametrize("dropout", [0.0, 0.4], ids=["", "dropout"])
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_gradients_match_finite_differences(kind, dropout, class_token_only):
    timm_block = block(**kind)

    def forward(x, *abm):
        torch.manual_seed(0)  # the same masks each time
        return low_rank_block(
            timm_block,
            x,
            deltas(abm, dropout),
            class_token_only=class_token_only,
        )

    assert gradcheck(forward, leaves(), fast_mode=True)


@pytest.mark.parametrize("class_token_only", [False, True], ids=["", "class token"])
@pytest.mark.parametrize("split", [None, 0, 2, 3])
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("dtype", [torch.float64, FLOAT32], ids=str)
def test_outputs_and_gradients_match_autograd(dtype, kind, split, class_token_only):
    x, *abm = leaves(dtype)
    actual = low_rank_block(
        block(dtype, **kind),
        x,
        deltas(abm),
        split=split,
        class_token_only=class_token_only,
    )
    reference = plain(block(dtype, **kind), x, deltas(abm), split)
    if class_token_only:
        reference = reference[:, :1]
    torch.testing.assert_close(actual, reference)
    assert close(gradients(actual, [x, *abm]), gradients(reference, [x, *abm]))


@pytest.mark.parametrize("class_token_only", [False, True], ids=["", "class token"])
@pytest.mark.parametrize("split", [None, 2])
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_kernels_and_plain_autograd_agree(kind, split, class_token_only):
    inputs = leaves()
    options = {"split": split, "class_token_only": class_token_only}
    outputs = []
    for kernels in (True, False):
        torch.manual_seed(0)  # the same masks
        y = low_rank_block(
            block(**kind),
            inputs[0],
            deltas(inputs[1:], 0.4),
            kernels=kernels,
            **options,
        )
        outputs.append(y)
    torch.testing.assert_close(*outputs)
    torch.testing.assert_close(*(gradients(y, inputs) for y in outputs))


def test_without_deltas_it_equals_the_block():
    x = leaves()[0]
    timm_block = block()
    y = low_rank_block(timm_block, x, {})
    torch.testing.assert_close(y, timm_block(x))
    torch.testing.assert_close(gradients(y, x), gradients(timm_block(x), x))
    with torch.inference_mode():
        torch.testing.assert_close(
            low_rank_block(timm_block, x, {}, class_token_only=True),
            timm_block(x)[:, :1],
        )


def test_one_delta_over_all_of_qkv_is_cut_for_the_class_token():
    x, a, b = (
        leaves()[0],
        *(
            torch.randn(s, dtype=torch.float64, requires_grad=True)
            for s in ((2, D), (3 * D, 2))
        ),
    )
    by_layer = {"qkv": [LowRankDelta(slice(None), a, b, 0.5)]}
    one = low_rank_block(block(), x, by_layer, class_token_only=True)
    all_tokens = plain(block(), x, by_layer)[:, :1]
    torch.testing.assert_close(
        gradients(one, [x, a, b]), gradients(all_tokens, [x, a, b])
    )


def test_deltas_have_gradients_if_the_input_has_none():
    x, *abm = leaves()
    actual = low_rank_block(block(), x.detach(), deltas(abm))
    reference = plain(block(), x.detach(), deltas(abm))
    torch.testing.assert_close(gradients(actual, abm), gradients(reference, abm))


def test_two_forward_passes_may_come_before_their_backward_passes():
    x, *abm = leaves()
    runs = [low_rank_block(block(), scale * x, deltas(abm)) for scale in (1.0, 2.0)]
    references = [plain(block(), scale * x, deltas(abm)) for scale in (1.0, 2.0)]
    for actual, reference in zip(runs, references, strict=True):
        torch.testing.assert_close(
            gradients(actual, [x, *abm]), gradients(reference, [x, *abm])
        )


def test_stochastic_depth_and_dropout_equal_those_of_timm():
    x = leaves()[0]
    timm_block = block(drop_path=0.5, attn_drop=0.3).train()
    torch.manual_seed(3)
    actual = low_rank_block(timm_block, x, {})
    torch.manual_seed(3)
    torch.testing.assert_close(actual, timm_block(x))


def test_checkpointing_gives_the_same_gradients():
    x, *abm = leaves()
    run = partial(low_rank_block, block(), x, deltas(abm, 0.5))
    torch.manual_seed(0)
    stored = gradients(run(), [x, *abm])
    torch.manual_seed(0)
    torch.testing.assert_close(
        gradients(checkpoint(run, use_reentrant=False), [x, *abm]),
        stored,
        rtol=0,
        atol=0,
    )


def test_the_second_forward_pass_of_a_checkpoint_needs_no_output():
    x, *abm = leaves()
    timm_block = block()
    passes = []

    def run(x):
        passes.append(
            low_rank_block(timm_block, x, deltas(abm), needs_output=not passes)
        )
        return passes[-1]

    stored = gradients(low_rank_block(timm_block, x, deltas(abm)), [x, *abm])
    torch.testing.assert_close(
        gradients(checkpoint(run, x, use_reentrant=False), [x, *abm]),
        stored,
        rtol=0,
        atol=0,
    )
    # the second pass ended early, as soon as all was there again
    assert len(passes) == 1


def test_a_block_stores_ten_widths():
    timm_block = block(torch.float32, 64)
    width = 64
    x = torch.randn(4, 50, width, requires_grad=True)
    a = torch.randn(1, width, requires_grad=True)
    b = torch.randn(3 * width, 1, requires_grad=True)
    stored: list[torch.Tensor] = []
    with saved_tensors_hooks(stored.append, lambda _: None):
        low_rank_block(timm_block, x, {"qkv": [LowRankDelta(slice(None), a, b, 1.0)]})
    sizes = {
        t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in stored
    }
    assert not {p.untyped_storage().data_ptr() for p in timm_block.parameters()} & set(
        sizes
    )
    # the excess over 10 is thin: statistics, x A^T, A, B
    assert 10 <= sum(sizes.values()) / (4 * x.numel()) < 10.3


@pytest.mark.parametrize("class_token_only", [False, True], ids=["", "class token"])
def test_under_bfloat16_autocast_it_equals_torch_within_rounding(class_token_only):
    x, *abm = leaves(torch.float32)
    run = partial(
        low_rank_block, x=x, deltas=deltas(abm), class_token_only=class_token_only
    )
    with torch.autocast("cpu", torch.bfloat16):
        actual = run(block(torch.float32))
        reference = plain(block(torch.float32), x, deltas(abm))
        rounded = block(torch.float32)
        for layer in (
            rounded.attn.qkv,
            rounded.attn.proj,
            rounded.mlp.fc1,
            rounded.mlp.fc2,
        ):
            layer.to(torch.bfloat16)
        from_rounded = run(rounded)
    reference = reference[:, :1] if class_token_only else reference
    assert actual.dtype == reference.dtype == torch.float32
    torch.testing.assert_close(actual, reference, rtol=0.05, atol=0.1)
    exact = gradients(
        plain(block(torch.float32), x, deltas(abm))[:, : actual.shape[1]], [x, *abm]
    )
    ours = gradients(actual, [x, *abm])
    autocast = gradients(reference, [x, *abm])
    assert {gradient.dtype for gradient in ours} == {torch.float32}
    # x, a, b, m
    for kind in (
        slice(0, 1),
        slice(1, None, 3),
        slice(2, None, 3),
        slice(3, None, 3),
    ):
        our = torch.cat([g.flatten() for g in ours[kind]])
        theirs = torch.cat([g.flatten() for g in autocast[kind]])
        right = torch.cat([g.flatten() for g in exact[kind]])
        assert (our - right).norm() < 0.01 * right.norm() + 1.5 * (
            theirs - right
        ).norm()
    # autocast rounds the weights to the same values
    assert torch.equal(from_rounded, actual)


def test_frozen_weights_in_bfloat16_serve_a_float32_input():
    x = leaves(torch.float32)[0]
    rounded = block(torch.bfloat16)
    y = low_rank_linear(x, rounded.mlp.fc1.weight, rounded.mlp.fc1.bias, [])
    assert torch.equal(
        y, F.linear(x, rounded.mlp.fc1.weight.float(), rounded.mlp.fc1.bias.float())
    )


def test_blocks_that_the_kernel_supports():
    assert is_standard_block(block())
    assert is_standard_block(block(init_values=0.1, qk_norm=True, scale_attn_norm=True))


@pytest.mark.parametrize(
    "other",
    [
        lambda: nn.Linear(2, 2),
        lambda: BeitBlock(D, HEADS),  # of another file
        lambda: block(mlp_layer=GluMlp),
        lambda: block(mlp_layer=GluMlp, act_layer=nn.SiLU),
        lambda: block(norm_layer=RmsNorm),
        lambda: block(scale_mlp_norm=True),
        lambda: block(act_layer=nn.SiLU),
        lambda: block(proj_drop=0.1),
    ],
)
def test_other_blocks_are_not_standard(other):
    assert not is_standard_block(other())


def test_a_block_with_hooks_or_replaced_layers_is_not_standard():
    hooked = block()
    replaced = block()
    hooked.attn.proj.register_forward_hook(lambda *_: None)
    assert not is_standard_block(hooked)
    replaced.mlp.fc1 = nn.Sequential(replaced.mlp.fc1)
    assert not is_standard_block(replaced)


def test_a_parameter_that_requires_a_gradient_is_refused():
    timm_block = block()
    timm_block.mlp.fc2.bias.requires_grad_()
    with pytest.raises(ValueError, match="frozen"):
        low_rank_block(timm_block, leaves()[0], {})


@pytest.mark.parametrize("queries", [1, 7])
def test_attention_in_bfloat16_is_that_of_torch(queries, monkeypatch):
    generator = torch.Generator().manual_seed(0)
    shapes = ((2, 3, queries, 8), (2, 3, 7, 8), (2, 3, 7, 8))
    inputs = [
        torch.randn(shape, generator=generator).bfloat16().requires_grad_()
        for shape in shapes
    ]
    expected = F.scaled_dot_product_attention(*(part.float() for part in inputs))
    dy = torch.randn(expected.shape, generator=generator).bfloat16()
    expected_grads = torch.autograd.grad(expected, inputs, dy.float())
    monkeypatch.setattr(F, "scaled_dot_product_attention", None)  # is not called
    y = kernels_block._attention(*inputs, dropout=0.0)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), expected, rtol=0.02, atol=0.02)
    for grad, expected_grad in zip(
        torch.autograd.grad(y, inputs, dy), expected_grads, strict=True
    ):
        torch.testing.assert_close(grad, expected_grad, rtol=0.03, atol=0.03)


@pytest.mark.parametrize("case", ["float32", "no gradient", "many tokens"])
def test_torch_computes_other_attention(case, monkeypatch):
    calls = []
    monkeypatch.setattr(
        F, "scaled_dot_product_attention", lambda *_, **options: calls.append(options)
    )
    # the limit above which torch computes
    tokens = kernels_block._MAX_STORED_TOKENS + (case == "many tokens")
    q = torch.ones(
        1, 1, tokens, 2, dtype=torch.float32 if case == "float32" else torch.bfloat16
    )
    kernels_block._attention(q.requires_grad_(case != "no gradient"), q, q, dropout=0.5)
    assert calls == [{"dropout_p": 0.5}]
