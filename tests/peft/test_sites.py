"""The public names of rsft.peft: imported at first use, declared for recipes."""

import pytest
import torch

import rsft.peft
from rsft.peft.modules.adapter_module import find_target_layers, target_layers
from rsft.peft.sites import Site, resolve_per_site, select_blocks, select_positions
from tests.helpers.peft_models import NETWORKS, rich_vit

SITES = [Site(0, "q"), Site(0, "mlp2"), Site(11, "q")]


def test_positions_come_in_forward_order():
    assert select_positions("2vq") == ("q", "v", "mlp2")


@pytest.mark.parametrize("letters", ["", "x", "q v"])
def test_unknown_positions(letters):
    with pytest.raises(ValueError, match="qkvo12"):
        select_positions(letters)


@pytest.mark.parametrize(
    ("blocks", "chosen"),
    [
        ("all", (0, 1, 2, 3, 4, 5)),
        ("last:2", (4, 5)),
        ("every:2", (1, 3, 5)),
        ([5, 0, 0], (0, 5)),
        (range(2, 4), (2, 3)),
    ],
    ids=str,
)
def test_blocks(blocks, chosen):
    assert select_blocks(blocks, 6) == chosen


@pytest.mark.parametrize(
    "blocks", ["first:2", "last:", "last:0", "last:7", [], [6], [-1]]
)
def test_unknown_blocks(blocks):
    with pytest.raises(ValueError, match="blocks"):
        select_blocks(blocks, 6)


def test_first_matching_pattern_is_used():
    assert resolve_per_site({"blocks.1?.*": 1, "*.q": 2, "*": 3}, SITES) == dict(
        zip(SITES, (2, 3, 1), strict=True)
    )
    assert resolve_per_site(7, SITES) == dict.fromkeys(SITES, 7)


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        ({"*.q": 1}, r"blocks\.0\.mlp2"),
        ({"*": 1, "block.*": 2}, r"'block\.\*' matches no site"),
        ({}, "no pattern"),
    ],
)
def test_patterns_that_do_not_cover_the_sites(patterns, message):
    with pytest.raises(ValueError, match=message):
        resolve_per_site(patterns, SITES)


def test_q_k_v_are_thirds_of_the_fused_layer(vit):
    query, value = target_layers(vit, [Site(1, "q"), Site(1, "v")]).values()
    assert query.layer is value.layer is vit.blocks[1].attn.qkv
    assert (query.rows, value.rows) == (slice(0, 24), slice(48, 72))
    assert find_target_layers(vit)[Site(2, "mlp1")].layer is vit.blocks[2].mlp.fc1


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("plain", "attn.qkv attn.qkv attn.qkv attn.proj mlp.fc1 mlp.fc2"),
        ("packed SwiGLU", "attn.qkv attn.qkv attn.qkv attn.proj mlp.fc1 mlp.fc2"),
        ("SwiGLU", "attn.qkv attn.qkv attn.qkv attn.proj mlp.fc2"),
        (
            "no fused qkv, rotary",
            "attn.q_proj attn.k_proj attn.v_proj attn.proj mlp.fc1 mlp.fc2",
        ),
        (
            "rope attention",
            "attn.q_proj attn.k_proj attn.v_proj attn.proj mlp.fc1 mlp.fc2",
        ),
        (
            "separate qkv bias, rotary",
            "attn.qkv attn.qkv attn.qkv attn.proj mlp.fc1 mlp.fc2",
        ),
    ],
)
def test_layers_of_the_positions(name, layers):
    vit = NETWORKS[name]()
    targets = [
        target for site, target in find_target_layers(vit).items() if site.block == 1
    ]
    assert [target.layer for target in targets] == [
        vit.blocks[1].get_submodule(layer) for layer in layers.split()
    ]


@pytest.mark.parametrize(
    ("name", "site", "message"),
    [
        ("plain", Site(9, "out"), r"blocks\.9\.out"),
        (
            "SwiGLU",
            Site(0, "mlp1"),
            r"blocks\.0\.mlp1; positions of that block: q, k, v, out, mlp2$",
        ),
    ],
)
def test_missing_layer(name, site, message):
    with pytest.raises(ValueError, match=message):
        target_layers(NETWORKS[name](), [site])


def test_class_token_features_are_those_of_the_whole_network():
    vit = rich_vit()
    images = torch.randn(2, 3, 32, 32)
    expected = vit.forward_features(images)[:, 0]
    torch.testing.assert_close(
        rsft.peft.class_token_features(vit, images), expected, atol=1e-5, rtol=0
    )
