"""SatMAE's multi-spectral encoders, with fewer and narrower blocks."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer

from rsft.backbones import mae
from rsft.backbones.loading import load_encoder_weights
from rsft.errors import WeightsError
from tests.helpers import satmae_data as data

CHANNELS = 16  # of the 64 of a token
GROUPS = {"patch": 8, "groups": mae.BAND_GROUPS, "channel_width": CHANNELS}
PRETRAINED, FINE_TUNED = (
    replace(
        card,
        build=partial(mae.build_mae_vit, card.name, data.SMALL, mean_pooled, **GROUPS),
    )
    for card, mean_pooled in zip(
        mae.CARDS_SATMAE_GROUPS[:2], (False, True), strict=True
    )
)
CHIPS = torch.rand(2, 10, 96, 96, generator=torch.Generator().manual_seed(1))


def pretrained_state():
    """State of MaskedAutoencoderGroupChannelViT in models_mae_group_channels.py."""
    state = data.pretrained(side=12, patch=8)
    for name in ("patch_embed.proj", "decoder_pred"):
        del state[f"{name}.weight"], state[f"{name}.bias"]
    for index, bands in enumerate((4, 4, 2)):
        state |= data.random(
            data.layer(f"patch_embed.{index}.proj", data.WIDTH, bands, 8, 8)
        )
        state |= data.random(
            data.layer(f"decoder_pred.{index}", 64 * bands, data.DECODER)
        )
    state["pos_embed"] = data.positions(data.WIDTH - CHANNELS, 12)
    state["channel_embed"] = torch.tensor(
        data.waves(CHANNELS, range(3))[None], dtype=torch.float32
    )
    state["decoder_channel_embed"] = torch.tensor(
        data.waves(CHANNELS, range(4))[None], dtype=torch.float32
    )
    return state


def fine_tuned_state():
    """State of models_vit_group_channels.py, with changed embeddings as after
    fine-tuning."""
    extra = data.random({"channel_cls_embed": (1, 1, CHANNELS)})
    return data.fine_tuned(pretrained_state()) | extra


def last_block(x, state):
    """Compute forward_features of models_vit_group_channels.py up to the pooling."""
    groups = [
        data.patches(x[:, bands], state, f"patch_embed.{index}.proj", 8)
        for index, bands in enumerate(([0, 1, 2, 6], [3, 4, 5, 7], [8, 9]))
    ]
    x = torch.stack(groups, dim=1)
    b, _, _, d = x.shape
    channel_embed = state["channel_embed"].unsqueeze(2)
    pos_embed = state["pos_embed"][:, 1:].unsqueeze(1)
    channel_embed = channel_embed.expand(-1, -1, pos_embed.shape[2], -1)
    pos_embed = pos_embed.expand(-1, channel_embed.shape[1], -1, -1)
    x = (x + torch.cat((pos_embed, channel_embed), dim=-1)).view(b, -1, d)
    cls_pos_channel = torch.cat(
        (state["pos_embed"][:, :1], state["channel_cls_embed"]), dim=-1
    )
    x = torch.cat(((cls_pos_channel + state["cls_token"]).expand(b, -1, -1), x), dim=1)
    return data.transformer(x, state)


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    return data.write(
        tmp_path_factory.mktemp("groups") / "pretrain-vit-large-e199.pth",
        pretrained_state(),
    )


@pytest.fixture(scope="module")
def fine_tuned(tmp_path_factory):
    return data.write(
        tmp_path_factory.mktemp("groups") / "finetune-vit-large-e7.pth",
        fine_tuned_state(),
    )


@pytest.mark.parametrize("size", [96, 64])
def test_features_match_the_published_code(pretrained, size):
    backbone = load_encoder_weights(PRETRAINED, size, pretrained)
    state = pretrained_state() | {"channel_cls_embed": torch.zeros(1, 1, CHANNELS)}
    state["pos_embed"] = data.resized(state["pos_embed"], size // 8)
    chips = CHIPS[:, :, :size, :size]
    with torch.inference_mode():
        features = backbone.vit.forward_features(chips)
        expected = data.norm(last_block(chips, state), state, "norm")
    assert isinstance(backbone.vit, VisionTransformer)
    assert features.shape == (2, 1 + 3 * (size // 8) ** 2, data.WIDTH)
    assert torch.allclose(features, expected, atol=1e-5)
    assert {name.split(".")[0].split("_")[0] for name in backbone.left_out} == {
        "decoder",
        "mask",
    }


def test_class_token_of_the_autoencoder_has_no_channel_embedding(pretrained):
    vit = load_encoder_weights(PRETRAINED, 96, pretrained).vit
    state = pretrained_state()
    with torch.inference_mode():
        # timm's own step between patches and blocks, which it does not export
        tokens = vit._pos_embed(vit.patch_embed(CHIPS))
    assert torch.equal(tokens[:, :1], state["cls_token"].expand(2, -1, -1))


def test_fine_tuned_feature_is_the_norm_of_the_mean_token(fine_tuned):
    backbone = load_encoder_weights(FINE_TUNED, 96, fine_tuned)
    state = fine_tuned_state()
    with torch.inference_mode():
        features = backbone.vit(CHIPS)
        expected = data.norm(last_block(CHIPS, state)[:, 1:].mean(1), state, "fc_norm")
    assert torch.allclose(features, expected, atol=1e-5)
    assert backbone.left_out == ("head.bias", "head.weight")


def test_missing_group(pretrained, tmp_path):
    state = pretrained_state()
    del state["patch_embed.2.proj.weight"]
    with pytest.raises(
        WeightsError, match=r"35 of the 36 .* missing: patch_embed\.2\.proj\.weight"
    ):
        load_encoder_weights(
            PRETRAINED, 96, data.write(tmp_path / "two_groups.pth", state)
        )


def test_inputs_are_scaled_as_in_training():
    card = PRETRAINED
    assert card.unit == "uint16"
    assert card.bands == (
        "B02",
        "B03",
        "B04",
        "B05",
        "B06",
        "B07",
        "B08",
        "B8A",
        "B11",
        "B12",
    )
    number = 1500.0
    mean = 1263.73947144
    std = 948.9819932  # of B05
    published = (number - (mean - 2 * std)) / ((mean + 2 * std) - (mean - 2 * std))
    assert (number - card.mean[3]) / card.std[3] == pytest.approx(published)
    assert mae.LIMITS[3] == pytest.approx((mean - 2 * std, mean + 2 * std))
