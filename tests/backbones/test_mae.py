"""SatMAE's ViT-L/16, with fewer and narrower blocks in place of the real ones."""

from dataclasses import replace
from functools import partial

import pytest
import torch

from rsft.backbones import mae
from rsft.backbones.loading import load_encoder_weights
from rsft.errors import WeightsError
from tests.helpers import satmae_data as data
from tests.helpers.messages import mentions

PRETRAINED, FINE_TUNED = (
    replace(card, build=partial(mae.build_mae_vit, card.name, data.SMALL, mean_pooled))
    for card, mean_pooled in zip(mae.CARDS_SATMAE, (False, True), strict=True)
)
IMAGES = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    return data.write(
        tmp_path_factory.mktemp("satmae") / "fmow_pretrain.pth", data.pretrained()
    )


@pytest.fixture(scope="module")
def fine_tuned(tmp_path_factory):
    return data.write(
        tmp_path_factory.mktemp("satmae") / "fmow_finetune.pth",
        data.fine_tuned(data.pretrained()),
    )


def test_every_tensor_is_loaded_or_left_out(pretrained):
    backbone = load_encoder_weights(PRETRAINED, 224, pretrained)
    stored = data.pretrained()
    loaded = backbone.vit.state_dict()
    assert all(torch.equal(loaded[name], stored[name]) for name in loaded)
    assert sorted([*loaded, *backbone.left_out]) == sorted(stored)
    assert {name.split(".")[0].split("_")[0] for name in backbone.left_out} == {
        "decoder",
        "mask",
    }


def test_features_match_the_published_code(pretrained):
    vit = load_encoder_weights(PRETRAINED, 224, pretrained).vit
    state = data.pretrained()
    with torch.inference_mode():
        features = vit.fc_norm(vit.forward_features(IMAGES))
        expected = data.norm(data.last_block(IMAGES, state), state, "norm")
    assert torch.allclose(features, expected, atol=1e-5)  # class token and patch tokens


@pytest.mark.parametrize("size", [96, 320])
def test_positions_are_resampled_for_other_sizes(pretrained, size):
    backbone = load_encoder_weights(PRETRAINED, size, pretrained)
    state = data.pretrained()
    state["pos_embed"] = data.resized(state["pos_embed"], size // 16)
    images = IMAGES.repeat(1, 1, 2, 2)[:, :, :size, :size]
    with torch.inference_mode():
        features = backbone.vit.forward_features(images)
        expected = data.norm(data.last_block(images, state), state, "norm")
    assert torch.allclose(features, expected, atol=1e-5)
    assert backbone.sha256 == load_encoder_weights(PRETRAINED, 224, pretrained).sha256


def test_fine_tuned_feature_is_the_norm_of_the_mean_token(fine_tuned):
    backbone = load_encoder_weights(FINE_TUNED, 224, fine_tuned)
    state = data.fine_tuned(data.pretrained())
    assert backbone.left_out == ("head.bias", "head.weight")
    with torch.inference_mode():
        tokens = backbone.vit.forward_features(IMAGES)
        features = backbone.vit.fc_norm(tokens[:, 1:].mean(1))
        expected = data.norm(
            data.last_block(IMAGES, state)[:, 1:].mean(1), state, "fc_norm"
        )
        assert torch.allclose(features, expected, atol=1e-5)
        assert torch.equal(backbone.vit(IMAGES), features)


def test_swapped_files_are_refused(pretrained, fine_tuned):
    with pytest.raises(
        WeightsError,
        match=mentions("28 of the 30", "norm.weight, norm.bias", "fc_norm"),
    ):
        load_encoder_weights(PRETRAINED, 224, fine_tuned)
    with pytest.raises(
        WeightsError, match=r"missing: fc_norm\.weight.* not expected: norm\.weight"
    ):
        load_encoder_weights(FINE_TUNED, 224, pretrained)
