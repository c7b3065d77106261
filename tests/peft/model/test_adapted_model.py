"""Output blocks, a head beside the method, and states that do not fit."""

import warnings

import pytest
import torch

from rsft.peft import (
    LoRA,
    Site,
    attach,
    load,
)
from tests.helpers.hierarchical_models import tiny_swin
from tests.helpers.messages import mentions
from tests.helpers.peft_models import tiny_vit


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
    assert adapted.modulator.scales()[Site(0, "q")] == 1
