import warnings

import pytest
import torch
from torch import nn

from rsft.peft import (
    METHODS,
    SSF,
    Adapter,
    AdaptFormer,
    BitFit,
    CompositeMethod,
    FullTuning,
    LoRA,
    LoTR,
    Site,
    VPTDeep,
    VPTShallow,
    attach,
    load,
    register,
)
from rsft.peft.methods.registry import method_from_dict
from tests.helpers.hierarchical_models import tiny_swin
from tests.helpers.messages import mentions
from tests.helpers.peft_models import method_id, tiny_vit, with_random_adapter


@pytest.mark.parametrize(
    ("position", "rows"),
    [("q", slice(0, 24)), ("k", slice(24, 48)), ("v", slice(48, 72))],
)
def test_delta_equals_its_equation(vit, position, rows):
    """y = W x + b + m (x A) B at the site's rows alone, in one matrix product for q, k,
    v (paper, equation 1)."""
    adapted = with_random_adapter(
        attach(vit, LoRA(rank=2, positions=position, blocks=[0]), learn_scales=True)
    )
    x = torch.randn(1, 5, 24)
    layer = vit.blocks[0].attn.qkv
    state = adapted.adapter_state()
    a, b = (state[f"blocks.0.{position}.{name}"] for name in "ab")
    expected = nn.functional.linear(x, layer.weight, layer.bias)
    expected[..., rows] += adapted.modulator.scales()[Site(0, position)] * (
        x @ a.T @ b.T
    )
    assert torch.allclose(layer(x), expected, atol=1e-6)
    assert layer.weight.shape == (72, 24)


def test_out_is_parallel_to_the_projection(vit):
    """The delta sees the projection's input, not its output."""
    adapted = with_random_adapter(attach(vit, LoRA(rank=2, positions="o", blocks=[0])))
    x = torch.randn(1, 5, 24)
    a, b = adapted.theta
    proj = vit.blocks[0].attn.proj
    assert torch.allclose(
        proj(x),
        nn.functional.linear(x, proj.weight, proj.bias) + x @ a.T @ b.T,
        atol=1e-6,
    )


def test_cores_of_lotr_share_their_factors(vit):
    adapted = with_random_adapter(attach(vit, LoTR(rank=2, positions="v", scale=0.5)))
    state = adapted.adapter_state()
    assert sorted(state) == [
        *(f"blocks.{i}.v.g" for i in range(3)),
        "shared.v.a",
        "shared.v.b",
    ]
    x = torch.randn(1, 5, 24)
    layer = vit.blocks[2].attn.qkv
    expected = nn.functional.linear(x, layer.weight, layer.bias)
    expected[..., 48:] += (
        0.5 * x @ state["shared.v.a"].T @ state["blocks.2.v.g"] @ state["shared.v.b"].T
    )
    assert torch.allclose(layer(x), expected, atol=1e-6)


def bottleneck(state, x, block=0):
    get = {
        key.removeprefix(f"blocks.{block}.mlp."): value for key, value in state.items()
    }
    x = nn.functional.layer_norm(x, x.shape[-1:], get["norm.weight"], get["norm.bias"])
    hidden = nn.functional.linear(x, get["down.weight"], get["down.bias"]).relu()
    return nn.functional.linear(hidden, get["up.weight"], get["up.bias"])


@pytest.mark.parametrize(
    "method", [Adapter(dim=3, scale=0.3), AdaptFormer(dim=3, scale=0.3)], ids=method_id
)
def test_positions_of_bottlenecks(method):
    """Adapter reads the MLP's output, AdaptFormer the MLP's input before the norm; both
    add inside LayerScale."""
    vit = tiny_vit(init_values=0.5)
    block = vit.blocks[0]
    x = torch.randn(2, 5, 24)
    middle = x + block.ls1(block.attn(block.norm1(x)))
    mlp = block.mlp(block.norm2(middle))
    state = with_random_adapter(attach(vit, method)).adapter_state()
    module_input = mlp if isinstance(method, Adapter) else middle
    assert torch.allclose(
        block(x),
        middle + block.ls2(mlp + 0.3 * bottleneck(state, module_input)),
        atol=1e-5,
    )


def test_prompts_follow_the_prefix_tokens():
    vit = tiny_vit(reg_tokens=2)
    adapted = with_random_adapter(attach(vit, VPTDeep(prompts=4, blocks=[0, 2])))
    inputs = []
    for block in vit.blocks:
        block.attn.register_forward_pre_hook(
            lambda module, args: inputs.append(args[0])
        )
    x = torch.randn(1, 3 + 16, 24)
    tokens = vit.blocks(x)
    assert [tokens_in.shape[1] for tokens_in in inputs] == [
        23,
        23,
        23,
    ] and tokens.shape == x.shape
    first, _, last = inputs
    state = adapted.adapter_state()
    assert torch.allclose(
        first[0, 3:7], vit.blocks[0].norm1(state["blocks.0.prompts"]), atol=1e-6
    )
    assert torch.allclose(
        last[0, 3:7], vit.blocks[2].norm1(state["blocks.2.prompts"]), atol=1e-6
    )
    assert torch.equal(first[0, :3], vit.blocks[0].norm1(x)[0, :3])


def test_dropout_acts_in_training_alone_and_at_its_sites(vit, images):
    adapted = with_random_adapter(
        attach(vit, LoRA(rank=2, dropout={"*.mlp2": 0.5, "*": 0}))
    )
    assert vit(images).equal(vit(images)) is False  # modules begin in training mode
    adapted.eval()
    assert torch.equal(adapted(images), adapted(images)) and torch.equal(
        vit(images), vit(images)
    )
    adapted.train()
    assert not torch.equal(adapted(images), adapted(images))
    assert not any(module.training for module in vit.modules())


@pytest.mark.parametrize(
    "method",
    [AdaptFormer(dim=8, dropout=0.5), VPTShallow(prompts=8, dropout=0.5)],
    ids=method_id,
)
def test_dropout_of_the_others(vit, images, method):
    adapted = with_random_adapter(attach(vit, method))
    assert not torch.equal(adapted(images), adapted(images))
    assert torch.equal(adapted.eval()(images), adapted(images))


def test_ranks_and_scales_by_pattern(vit):
    method = LoRA(
        rank={"blocks.0.*": 0, "*.q": 8, "*": 2},
        positions="qv",
        scale={"*.q": "1/r", "*": 3},
    )
    adapted = attach(vit, method)
    (module,) = adapted.adapter_modules
    assert [len(module.factors(site)[0]) for site in adapted.sites] == [8, 2, 8, 2]
    assert module.fixed_scales == {
        Site(1, "q"): 1 / 8,
        Site(1, "v"): 3,
        Site(2, "q"): 1 / 8,
        Site(2, "v"): 3,
    }
    assert adapted.first_adapted_stage == adapted.prefix_end == 1


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (LoRA(rank=0), "rank 0"),
        (LoRA(rank=-1), "rank -1"),
        (LoRA(rank={"blocks.9.*": 1, "*": 2}), "matches no site"),
        (LoRA(scale="r"), "scale 'r'"),
        (LoRA(dropout=1), "dropout 1"),
        (LoRA(blocks="last:4"), "last:4"),
        (Adapter(scale="learnable"), "AdaptFormer only"),
        (LoTR(rank={"blocks.0.*": 1, "*": 2}), "must be equal"),
        (VPTShallow(prompts=0), "prompts 0"),
        (
            CompositeMethod((LoRA(positions="q"), LoRA(positions="qv"))),
            r"adapt blocks\.0\.q",
        ),
        (CompositeMethod((Adapter(), AdaptFormer())), r"adapt blocks\.0\.mlp"),
        (
            CompositeMethod((LoRA(), FullTuning())),
            r"blocks\.0\.attn\.qkv is adapted and its weight is trained",
        ),
        (CompositeMethod((FullTuning(), LoRA())), "its weight is trained"),
    ],
    ids=method_id,
)
def test_failed_attach_does_not_change_the_network(images, method, message):
    vit = tiny_vit()
    with pytest.raises(ValueError, match=message):
        attach(vit, method)
    assert torch.equal(vit(images), tiny_vit()(images))
    assert [type(module) for module in vit.modules()] == [
        type(module) for module in tiny_vit().modules()
    ]
    attach(vit, LoRA())


@pytest.mark.parametrize("method", [LoRA(), BitFit(), VPTShallow()], ids=method_id)
def test_attaching_twice_is_an_error(vit, method):
    adapted = attach(vit, method)
    with pytest.raises(ValueError, match=f"already, by {method.name}"):
        attach(vit, LoRA())
    adapted.detach()
    attach(vit, LoRA()).merge()
    attach(vit, LoRA())


def test_modules_that_cannot_be_merged_remain_attached(vit):
    adapted = attach(vit, Adapter(blocks=[1]))
    adapted.merge()
    assert adapted.unmerged == ("blocks.1.mlp",)
    with pytest.raises(ValueError, match="already"):
        attach(vit, LoRA())


def test_full_tuning_of_some_blocks_beside_lora(vit, images):
    method = CompositeMethod((LoRA(rank=2, blocks=[0, 1]), FullTuning(blocks="last:1")))
    adapted = with_random_adapter(attach(vit, method))
    before = adapted(images)
    assert torch.allclose(adapted.merge()(images), before, atol=1e-4)


def test_merging_adds_in_float32():
    """Small deltas of a half-precision network are not rounded away before the sum."""
    vit = tiny_vit().bfloat16()
    adapted = attach(vit, LoRA(rank=1, positions="o", blocks=[0]))
    a, b = adapted.theta
    assert a.dtype == b.dtype == torch.float32
    weight = vit.blocks[0].attn.proj.weight
    b.data.normal_(std=0.01)
    expected = (weight.float() + b @ a).bfloat16()
    adapted.merge()
    assert torch.equal(weight, expected) and not torch.equal(
        weight, weight + (b.bfloat16() @ a.bfloat16())
    )


def test_user_hooks_are_called(vit, images):
    adapted = with_random_adapter(attach(vit, LoRA(rank=2)))
    before = adapted(images)
    shapes = []
    vit.blocks[1].mlp.register_forward_hook(
        lambda module, args, output: shapes.append(output.shape)
    )
    assert torch.allclose(adapted(images), before, atol=1e-5)
    assert shapes == [(4, 17, 24)]


def test_no_graph_below_the_first_site(vit, images):
    adapted = attach(vit, LoRA(rank=2, positions="2", blocks="last:1"))
    prefix = adapted.run_frozen_prefix(images)
    assert adapted.first_adapted_stage == 2 and not prefix.requires_grad
    assert torch.allclose(
        prefix, vit.blocks[:2](vit._pos_embed(vit.patch_embed(images))), atol=1e-5
    )


def test_the_prefix_ends_after_the_first_output_block(vit, images):
    adapted = with_random_adapter(attach(vit, LoRA(rank=2, blocks="last:1")))
    assert (adapted.output_blocks, adapted.prefix_end) == ((), 2)
    plain = adapted.forward_features(images)
    adapted.output_blocks = [1, 0]
    assert (adapted.output_blocks, adapted.prefix_end, adapted.first_adapted_stage) == (
        (0, 1),
        1,
        2,
    )
    prefix = adapted.run_frozen_prefix(images)
    final, first, second = adapted.run_suffix_with_blocks(prefix)
    assert torch.equal(first, prefix) and not first.requires_grad
    assert torch.allclose(second, vit.blocks[1](first), atol=1e-5) and torch.allclose(
        final, plain, atol=1e-5
    )
    with pytest.raises(ValueError, match=mentions("stage 2", "too late", "block 0")):
        adapted.run_suffix_with_blocks(prefix, stage=2)


@pytest.mark.parametrize(("blocks", "wrong"), [([2], "2"), ([-1, 0, 5], "-1, 5")])
def test_the_last_block_and_unknown_ones_are_no_output_blocks(vit, blocks, wrong):
    with pytest.raises(
        ValueError, match=mentions("3 blocks", "0 to 1", f"not {wrong}")
    ):
        attach(vit, LoRA()).output_blocks = blocks


def test_a_hierarchical_network_has_no_output_blocks():
    with pytest.raises(
        ValueError, match=mentions("plain vision transformer", "SwinTransf")
    ):
        attach(tiny_swin(), LoRA(rank=2)).output_blocks = [0]


def test_joint_pass_needs_an_inner_row(vit):
    with pytest.raises(ValueError, match="split 0"), attach(vit, LoRA()).joint(0):
        pass


def vit_with_head():
    return tiny_vit(num_classes=5)


@pytest.mark.filterwarnings("error")
def test_a_head_can_be_trained_beside_the_method(images, tmp_path):
    vit = vit_with_head()
    before = {name: tensor.clone() for name, tensor in vit.state_dict().items()}
    adapted = attach(vit, LoRA(rank=2, blocks="last:1"), train_also=("head",))
    # the head does not need gradients of the first blocks
    assert adapted.prefix_end == 2
    adapted(images).square().sum().backward()
    assert vit.head.weight.grad.abs().sum() > 0 and any(
        vit.head.weight is parameter for parameter in adapted.theta
    )
    with torch.no_grad():
        for parameter in adapted.theta:
            parameter += 0.1
    assert {"head.weight", "head.bias"} <= adapted.adapter_state().keys()
    adapted.save(tmp_path / "adapter.safetensors")
    logits = adapted(images)
    loaded = load(vit_with_head(), tmp_path / "adapter.safetensors")
    assert loaded.train_also == ("head",) and torch.equal(loaded(images), logits)
    assert (
        torch.allclose(loaded.merge()(images), logits, atol=1e-5)
        and loaded.unmerged == ()
    )
    restored = adapted.detach().state_dict()
    assert restored.keys() == before.keys() and all(
        torch.equal(restored[name], before[name]) for name in before
    )


def test_a_frozen_head_is_a_warning(vit, images):
    with pytest.warns(
        UserWarning, match=mentions("classifier head", "frozen", "train_also=('head',)")
    ):
        attach(vit_with_head(), LoRA(rank=2))
    with pytest.warns(UserWarning, match=mentions("head.fc", "frozen")):
        attach(tiny_swin(num_classes=5), LoRA(rank=2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        attach(vit, LoRA(rank=2))  # it has no classifier


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("neck",), "no module neck"),
        (("head_drop",), "no parameter"),
        (("blocks.0",), "choose other blocks"),
    ],
)
def test_other_modules_that_cannot_be_trained(names, message):
    vit = vit_with_head()
    with pytest.raises(ValueError, match=message):
        attach(vit, LoRA(rank=2), train_also=names)
    attach(vit, LoRA(rank=2), train_also=("head",))


def test_in_a_joint_pass_only_the_inner_rows_train_the_head(images):
    adapted = attach(
        vit_with_head(), LoRA(rank=2), learn_scales=True, train_also=("head",)
    )
    with adapted.joint(1):
        logits = adapted(images)
    assert torch.allclose(logits, adapted(images), atol=1e-6)
    logits[1:].sum().backward()
    assert not any(
        parameter.grad is not None and parameter.grad.any()
        for parameter in adapted.theta
    )
    assert adapted.gamma[0].grad is not None


def test_state_that_does_not_fit(vit, tmp_path):
    adapted = attach(vit, LoRA(rank=2))
    state = adapted.adapter_state()
    with pytest.raises(ValueError, match="2 keys"):
        adapted.load_adapter_state(
            {
                key: value
                for key, value in state.items()
                if not key.startswith("blocks.0.q")
            }
        )
    with pytest.raises(ValueError, match=r"blocks\.0\.q\.a"):
        adapted.load_adapter_state(state | {"blocks.0.q.a": torch.zeros(3, 24)})
    attach(tiny_vit(), LoRA(rank=3)).save(tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=r"other\.safetensors: .* keys do not fit"):
        adapted.load(tmp_path / "other.safetensors")


def test_a_state_that_does_not_fit_changes_nothing(vit):
    adapted = attach(vit, LoRA(rank=2), learn_scales=True)
    state = adapted.adapter_state()
    state["gamma"][0] = -torch.inf
    lacking = {
        key: value
        for key, value in state.items()
        if not key.startswith(("blocks.0.q.", "blocks.0.k."))
    }
    with pytest.raises(ValueError, match="2 keys"):
        adapted.load_adapter_state(lacking)
    assert adapted.pruned_sites == () and adapted.modulator.scales()[Site(0, "q")] == 1


def test_files_that_are_not_adapters(vit, tmp_path):
    path = tmp_path / "adapter.safetensors"
    with pytest.raises(FileNotFoundError):
        load(vit, path)
    attach(vit, LoRA(rank=2)).save(path)
    whole = path.read_bytes()
    narrow = tiny_vit(embed_dim=12)
    for content, network, message in (
        (whole[:-8], tiny_vit(), mentions("adapter.safetensors", "not a complete")),
        (whole.replace(b"rsft.peft", b"other.fix"), tiny_vit(), "names no method"),
        (whole, nn.Linear(2, 2), "no blocks"),
        (whole, narrow, "keys do not fit"),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=message):
            load(network, path)
    attach(narrow, SSF())  # it was left as it was
    assert [file.name for file in tmp_path.iterdir()] == ["adapter.safetensors"]


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ({"name": "magic"}, "unknown PEFT method 'magic'"),
        ({"name": "lora", "range": 4}, "method lora: .*range"),
    ],
)
def test_files_with_an_invalid_method_description(description, message):
    with pytest.raises(ValueError, match=message):
        method_from_dict(description)


def test_method_names_are_unique():
    assert METHODS["lora"] is LoRA and register(LoRA) is LoRA

    class AnotherLoRA(LoRA):
        pass

    with pytest.raises(ValueError, match="'lora' is registered already"):
        register(AnotherLoRA)
