"""Blocks and positions of hierarchical networks."""

from collections import Counter

import pytest
from timm.models.resnet import BasicBlock
from torch import nn

from rsft.peft import (
    LoRA,
    attach,
)
from rsft.peft.modules.adapter_module import is_hierarchical, named_blocks
from tests.helpers.hierarchical_models import (
    tiny_convnext,
    tiny_resnet,
    tiny_swin,
)
from tests.helpers.messages import mentions
from tests.helpers.peft_models import tiny_vit


def test_blocks_are_counted_through_all_stages():
    assert list(named_blocks(tiny_swin())) == [
        "layers.0.blocks.0",
        "layers.1.blocks.0",
        "layers.1.blocks.1",
    ]
    assert list(named_blocks(tiny_convnext()))[:3] == [
        "stages.0.blocks.0",
        "stages.1.blocks.0",
        "stages.1.blocks.1",
    ]
    assert list(named_blocks(tiny_resnet())) == [
        "layer1.0",
        "layer2.0",
        "layer2.1",
        "layer3.0",
        "layer4.0",
    ]
    assert list(named_blocks(tiny_vit())) == ["blocks.0", "blocks.1", "blocks.2"]
    assert is_hierarchical(tiny_resnet()) and not is_hierarchical(tiny_vit())
    with pytest.raises(ValueError, match=mentions("Linear", "`blocks`")):
        named_blocks(nn.Linear(2, 2))


def test_all_selects_the_positions_that_a_block_has():
    adapted = attach(tiny_resnet(), LoRA(positions="all", blocks="1-2"))
    assert [str(site) for site in adapted.sites] == [
        "blocks.1.conv1",
        "blocks.1.conv2",
        "blocks.1.conv3",
        "blocks.1.downsample",
        "blocks.2.conv1",
        "blocks.2.conv2",
        "blocks.2.conv3",
    ]
    adapted = attach(tiny_vit(), LoRA(positions="all", blocks=[0]))
    assert [site.position for site in adapted.sites] == [
        "q",
        "k",
        "v",
        "out",
        "mlp1",
        "mlp2",
    ]


def test_downsample_is_only_asked_of_blocks_that_have_it():
    adapted = attach(
        tiny_resnet(),
        LoRA(positions=["conv2", "downsample"], rank={"*.downsample": 1, "*": 2}),
    )
    assert Counter(site.position for site in adapted.sites) == {
        "conv2": 5,
        "downsample": 4,
    }
    assert adapted.adapter_state()["blocks.0.downsample.a"].shape == (
        1,
        16 // 16 * 64,
        1,
        1,
    )
    with pytest.raises(
        ValueError,
        match=mentions("ResNet", "for the site blocks.2.downsample"),
    ):
        attach(tiny_resnet(), LoRA(positions=["downsample"], blocks=[2]))


@pytest.mark.parametrize(
    ("network", "positions", "missing"),
    [
        (
            tiny_resnet,
            "qkvo12",
            "the site blocks.0.q; positions of that block: conv1, con",
        ),
        (
            tiny_convnext,
            "q",
            "the site blocks.0.q; positions of that block: mlp1",
        ),
        (
            tiny_swin,
            ["conv1"],
            "the site blocks.0.conv1; positions of that block: q",
        ),
        (
            lambda: tiny_resnet(BasicBlock),
            ["conv3"],
            "the site blocks.0.conv3",
        ),
        (
            lambda: tiny_resnet(cardinality=2, base_width=64),
            ["conv2"],
            "no linear layer or full convolution for the site blocks.0.conv2",
        ),
    ],
)
def test_a_position_that_the_network_lacks_is_refused(network, positions, missing):
    with pytest.raises(ValueError) as caught:
        attach(network(), LoRA(positions=positions))
    assert missing in str(caught.value)
