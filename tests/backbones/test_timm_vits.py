"""Cards of timm, checkpoints in the form of its hub, and families beside the plain ViT:
equal features at any size."""

from dataclasses import replace
from functools import partial
from importlib import import_module

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from rsft.backbones import timm_vits
from rsft.backbones.card import Remote
from rsft.backbones.loading import find_card, load_encoder_weights
from rsft.backbones.timm_vits import build_timm_vit, timm_card
from rsft.errors import RequestError, WeightsError
from tests.helpers.messages import mentions
from tests.helpers.versions import needs

TINY = "test_vit.r160_in1k"
"""A test network of timm. test_vit2 has mean pooling before its last norm, and
test_vit3 attention pooling."""


def card_of(name):
    card = timm_vits.timm_card(name)
    assert card is not None
    return card


def test_card_of_a_listed_name():
    card = card_of("vit_base_patch16_224.augreg_in21k")
    assert (card.size, card.patch, card.bands, card.unit) == (
        224,
        16,
        ("R", "G", "B"),
        "uint8",
    )
    assert (card.mean, card.std, card.license) == ((0.5,) * 3, (0.5,) * 3, "apache-2.0")
    page = "https://huggingface.co/timm/vit_base_patch16_224.augreg_in21k"
    url = f"{page}/resolve/main/model.safetensors"
    assert card.weights == Remote(
        "vit_base_patch16_224.augreg_in21k.safetensors", url, None, None, page
    )


@pytest.mark.slow
@needs("timm", "1.0.31")
def test_every_listed_name_has_a_card_with_a_unique_file():
    cards = [timm_vits.timm_card(name) for name in timm_vits.NAMES]
    assert [card and card.name for card in cards] == list(timm_vits.NAMES)
    assert len(
        {
            card.weights.file
            for card in cards
            if card and isinstance(card.weights, Remote)
        }
    ) == len(cards)


def test_name_without_a_tag_gets_the_default_tag():
    assert card_of("test_vit").name == TINY


@pytest.mark.slow
def test_native_size_is_a_multiple_of_the_patch():
    card = card_of("vit_so400m_patch14_siglip_384.webli")
    assert (card.size, card.patch) == (378, 14)


@pytest.mark.parametrize("name", [TINY, "test_vit2.r160_in1k", "test_vit3.r160_in1k"])
@pytest.mark.parametrize("size", [160, 96])
def test_hub_file_loads_without_its_classifier(tmp_path, name, size):
    torch.manual_seed(0)
    model = timm.create_model(name).eval()
    backbone = load(tmp_path, card_of(name), size, model.state_dict())
    assert backbone.left_out == ("head.bias", "head.weight")
    assert len(backbone.vit.state_dict()) == len(model.state_dict()) - 2
    if size == 160:
        image = torch.randn(1, 3, size, size)
        torch.testing.assert_close(
            backbone.vit.forward_features(image), model.forward_features(image)
        )
    else:
        assert backbone.vit.forward_features(torch.zeros(1, 3, size, size)).shape == (
            1,
            37,
            backbone.width,
        )


@pytest.mark.parametrize(
    ("name", "blocks", "channels"),
    [("test_vit", None, 2), ("test_vit", 3, 5), ("test_resnet", None, 4)],
)
def test_a_local_file_states_its_number_of_channels(tmp_path, name, blocks, channels):
    torch.manual_seed(0)
    model = timm.create_model(name, in_chans=channels, num_classes=0).eval()
    save_file(model.state_dict(), tmp_path / "own.safetensors")
    backbone = load_encoder_weights(
        find_card(f"timm:{name}", blocks), 64, tmp_path / "own.safetensors"
    )
    assert len(backbone.bands) == len(backbone.mean) == len(backbone.std) == channels
    images = torch.randn(2, channels, 64, 64)
    with torch.inference_mode():
        features = backbone.vit.forward_features(images)
        if name == "test_resnet":
            torch.testing.assert_close(features, model.forward_features(images))
    with pytest.raises(
        WeightsError, match=f"64x{channels}x16x16, not" if name == "test_vit" else "not"
    ):
        load_encoder_weights(
            replace(card_of(name), name="published"), 64, tmp_path / "own.safetensors"
        )


def test_both_heads_of_a_distilled_model_are_expected():
    card = card_of("deit_tiny_distilled_patch16_224.fb_in1k")
    names = ("head.weight", "head_dist.bias", "dist_token", "head_other", "mask_token")
    assert list(card.convert({name: torch.zeros(1) for name in names})) == [
        "dist_token",
        "head_other",
    ]


def test_other_layout_is_refused_with_counts(tmp_path):
    card = card_of(TINY)
    state = {
        f"visual.trunk.{name}": value
        for name, value in timm.create_model(TINY).state_dict().items()
    }
    state["cls_token"] = torch.zeros(1, 1, 64)
    with pytest.raises(
        WeightsError,
        match=mentions("1 of the 78", "and 74 more", "not expected: visual"),
    ):
        load(tmp_path, card, 160, state)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("dm_nfnet_f0.dm_in1k", "it has no blocks"),
        ("hiera_tiny_224.mae", "it has no patch_embed.patch_size"),
        ("samvit_base_patch16.sa1b", "it has no num_prefix_tokens"),
        (
            "timm:vit_base_patch16_xp_224",
            "blocks.0 has no linear layer attn.qkv or attn.q_proj",
        ),
        ("timm:vitamin_base_224", "blocks.0 has no linear layer mlp.fc2"),
        (
            "timm:deepseek_vit_412m_enc",
            (
                "its forward_features returns (1, 39, 39, 1024), not tokens (1, 1521,"
                " 1024)"
            ),
        ),
        (
            "vit_huge_patch14_gap_224.in1k_ijepa",
            "no weights of vit_huge_patch14_gap_224.in1k_ijepa on the hub",
        ),
        ("vit_base_patch16_224.nope", "augreg_in21k"),
    ],
)
def test_unsupported_networks_are_refused_with_the_reason(name, message):
    with pytest.raises(RequestError) as caught:
        timm_vits.timm_card(name)
    assert message in str(caught.value)


def test_names_of_other_sources_have_no_timm_card():
    assert timm_vits.timm_card("vit_tiny_patch8_64.simship") is None
    assert timm_vits.timm_card("torchgeo:ViTSmall16_Weights.SENTINEL1_GRD_MAE") is None


def test_built_weights_are_random_or_on_the_meta_device():
    card = card_of(TINY)
    assert card.build(160).patch_embed.proj.weight.std() > 0
    with torch.device("meta"):
        assert card.build(160).pos_embed.is_meta


SMALL = {"embed_dim": 32, "depth": 2, "num_heads": 2}
# SwiGLU with a norm; q, k and v apart
FAMILIES = {
    "vit_large_patch16_dinov3.sat493m": "eva",
    "vit_small_patch16_dinov3_qkvb.lvd1689m": "eva",
    "eva02_small_patch14_224.mim_in22k": "eva",
    "eva02_base_patch14_448.mim_in22k_ft_in1k": ("eva"),
    "eva02_base_patch16_clip_224.merged2b": "eva",
    "eva_giant_patch14_224.clip_ft_in1k": "eva",
    "vit_small_patch16_rope_mixed_ape_224.naver_in1k": "eva",
    "vit_medium_patch16_rope_reg1_gap_256.sbb_in1k": "eva",
    "cait_s24_224.fb_dist_in1k": "cait",
    "beit_base_patch16_224.in22k_ft_in22k": "beit",
    "vit_relpos_small_patch16_224.sw_in1k": "vision_transformer_relpos",
}
"""Name -> module of timm with the function that adapts a checkpoint to another size."""

EACH = pytest.mark.parametrize("name", FAMILIES)


def small_card(name):
    card = card_of(name)
    return replace(card, build=partial(build_timm_vit, name, card.patch, **SMALL))


def load(folder, card, size, state):
    """Write a state as in a file of the hub, and load it as the weights of a card."""
    save_file(state, folder / "x.safetensors")
    return load_encoder_weights(card, size, folder / "x.safetensors")


def random_model(name, size, classes=3):
    """Return a small model of timm, as if trained: no parameter is constant."""
    torch.manual_seed(0)
    model = timm.create_model(name, img_size=size, num_classes=classes, **SMALL).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, 0.1, 0.2)
    return model


@pytest.mark.slow
@EACH
@pytest.mark.parametrize("factor", [4, 6], ids=["stored size", "another size"])
def test_features_equal_those_of_timm(tmp_path, name, factor):
    card = small_card(name)
    stored = random_model(name, 4 * card.patch).state_dict()
    size = factor * card.patch
    backbone = load(tmp_path, card, size, stored)
    assert backbone.left_out == ("head.bias", "head.weight")

    expected = random_model(name, size, classes=0)
    convert = import_module(f"timm.models.{FAMILIES[name]}").checkpoint_filter_fn
    state = {key: value for key, value in stored.items() if not key.startswith("head.")}
    # timm does not resample the position embedding of CaiT
    if FAMILIES[name] != "cait":
        expected.load_state_dict(convert(dict(state), expected))
    elif factor == 4:
        expected.load_state_dict(state)
    image = torch.randn(2, 3, size, size)
    features = backbone.vit.forward_features(image)
    if FAMILIES[name] != "cait" or factor == 4:
        torch.testing.assert_close(features, expected.forward_features(image))
    assert features.shape == (2, backbone.vit.num_prefix_tokens + factor**2, 32)
    assert isinstance(backbone.vit.fc_norm, nn.Module)


@EACH
def test_a_missing_or_unknown_tensor_is_refused(tmp_path, name):
    card = small_card(name)
    state = random_model(name, 4 * card.patch).state_dict()
    incomplete = {
        key: value for key, value in state.items() if key != "blocks.1.attn.proj.weight"
    }
    with pytest.raises(WeightsError, match=r"missing: blocks\.1\.attn\.proj\.weight"):
        load(tmp_path, card, 4 * card.patch, incomplete)
    with pytest.raises(WeightsError, match=r"not expected: blocks\.1\.gamma_3"):
        load(
            tmp_path,
            card,
            4 * card.patch,
            state | {"blocks.1.gamma_3": torch.zeros(32)},
        )


def test_masked_pre_training_of_eva02_loads(tmp_path):
    """The file has a norm before the pooling, a mask token and a language head."""
    name = "eva02_small_patch14_224.mim_in22k"
    card = small_card(name)
    model = random_model(name, 56, classes=0)
    state = {
        key.replace("fc_norm.", "norm."): value
        for key, value in model.state_dict().items()
    }
    state |= {"mask_token": torch.zeros(1, 1, 32), "lm_head.weight": torch.zeros(8, 32)}
    backbone = load(tmp_path, card, 56, state | {"rope.freqs_cos": torch.ones(2)})
    assert backbone.left_out == ("lm_head.weight", "mask_token", "rope.freqs_cos")
    assert backbone.vit.fc_norm.weight.equal(model.get_parameter("fc_norm.weight"))


@pytest.mark.slow
def test_cards_state_what_timm_states():
    card = timm_card("vit_large_patch16_dinov3.sat493m")
    assert card is not None
    assert (card.size, card.patch, card.bands, card.unit) == (
        256,
        16,
        ("R", "G", "B"),
        "uint8",
    )
    assert (card.mean, card.std) == ((0.430, 0.411, 0.296), (0.213, 0.156, 0.143))
    assert card.license.startswith("dinov3-license")
    hybrid = timm_card("vit_small_r26_s32_224.augreg_in21k")
    # the side of a patch behind its stem
    assert hybrid is not None and (hybrid.size, hybrid.patch) == (
        224,
        32,
    )
