"""SARMAE's ViT, with fewer and narrower blocks in place of the real ones."""

from dataclasses import replace
from functools import partial

import pytest
import timm
import torch

from rsft.backbones import mae
from rsft.backbones.loading import find_card, load_encoder_weights
from rsft.errors import WeightsError
from tests.helpers import satmae_data as data
from tests.helpers.messages import mentions

BASE, LARGE = mae.CARDS_SARMAE
SMALL = replace(BASE, build=partial(mae.build_mae_vit, BASE.name, data.SMALL, False))


def checkpoint():
    """Return a state of SAROpticalPatchAlignment in models/mae_contrastive.py; its
    encoder is the MAE of SatMAE."""
    optical = {
        "cls_token": (1, 1, 8),
        **data.layer("patch_embed", 8, 3, 16, 16),
        **data.layer("norm", 8),
    }
    projection = {
        **data.layer("0", 64, 64),
        **data.layer("2", 8, 64),
        **data.layer("3", 8),
    }
    return {
        **{f"sar_encoder.{name}": tensor for name, tensor in data.pretrained().items()},
        **{
            f"optical_encoder.{name}": tensor
            for name, tensor in data.random(optical).items()
        },
        **{
            f"sar_alignment_ffn.{name}": tensor
            for name, tensor in data.random(projection).items()
        },
    }


def plain_vit():
    vit = timm.create_model(
        "vit_base_patch16_224", num_classes=0, global_pool="token", **data.SMALL
    ).eval()
    state = data.pretrained()
    vit.load_state_dict({name: state[name] for name in vit.state_dict()})
    return vit


def test_every_tensor_is_loaded_or_left_out(tmp_path):
    stored = checkpoint()
    backbone = load_encoder_weights(
        SMALL, 224, data.write(tmp_path / "SARMAE_vitb_checkpoint-last", stored)
    )
    loaded = backbone.vit.state_dict()
    assert all(
        torch.equal(tensor, stored[f"sar_encoder.{name}"])
        for name, tensor in loaded.items()
    )
    assert sorted(
        [*(f"sar_encoder.{name}" for name in loaded), *backbone.left_out]
    ) == sorted(stored)
    parts = {
        name.removeprefix("sar_encoder.").split(".")[0].split("_")[0]
        for name in backbone.left_out
    }
    assert parts == {"decoder", "mask", "optical", "sar"}


def test_features_match_a_plain_timm_vit(tmp_path):
    vit = load_encoder_weights(
        SMALL, 224, data.write(tmp_path / "checkpoint", checkpoint())
    ).vit
    images = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        torch.testing.assert_close(
            vit.forward_features(images), plain_vit().forward_features(images)
        )


@pytest.mark.parametrize("prefix", ["", "sar_encoder.", "module.sar_encoder."])
def test_layouts_of_the_published_code_give_the_same_encoder(tmp_path, prefix):
    names = {f"{prefix}{name}": tensor for name, tensor in data.pretrained().items()}
    backbone = load_encoder_weights(
        SMALL, 224, data.write(tmp_path / "checkpoint", names)
    )
    assert backbone.vit.norm.weight.equal(data.pretrained()["norm.weight"])
    assert len(backbone.left_out) == len(names) - len(backbone.vit.state_dict())


def test_other_tensors_are_refused(tmp_path):
    path = data.write(
        tmp_path / "checkpoint",
        checkpoint() | {"sar_encoder.head.weight": torch.zeros(2, 64)},
    )
    with pytest.raises(
        WeightsError, match=mentions("30 of the 30", "not expected: head.weight")
    ):
        load_encoder_weights(SMALL, 224, path)
    state = checkpoint()
    del state["sar_encoder.norm.bias"]
    with pytest.raises(
        WeightsError, match=mentions("29 of the 30", "missing: norm.bias")
    ):
        load_encoder_weights(SMALL, 224, data.write(tmp_path / "incomplete", state))


def test_cards():
    card = find_card("sarmae_vit_large_patch16_224.sar1m")
    assert card is LARGE and card.sensor == "SAR, several sensors"
    assert (card.mean, card.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert card.license.startswith("no license published")
    assert card.restrictions == ("non-commercial", "unknown")
    assert (
        card.weights.url
        == "https://huggingface.co/Wenquandan777/SARMAE/resolve/main/SARMAE_vitl_checkpoint-last"
    )
