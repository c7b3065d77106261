"""Prithvi-EO-2.0 for one date, with fewer and narrower blocks in place of the real
ones."""

import importlib
import os
from dataclasses import replace
from functools import partial

import pytest
import torch
from timm.models.vision_transformer import Block
from torch import nn

from rsft.backbones.convert import convert_weights
from rsft.backbones.loading import find_card, load_encoder_weights
from rsft.errors import RequestError, WeightsError
from rsft.peft import LoRA, attach
from rsft.peft.kernels import is_standard_block
from rsft.plugins.encoders import prithvi
from tests.helpers.messages import mentions
from tests.helpers.satmae_data import waves

CARDS = {card.name: card for card in prithvi.CARDS}
LARGE = CARDS["prithvi_eo_v2_300_tl"]
HUGE = CARDS["prithvi_eo_v2_600"]
SIZES = {"embed_dim": 64, "depth": 2, "num_heads": 4}
CASES = pytest.mark.parametrize("card", [LARGE, HUGE], ids=["patch16", "patch14"])


def small(card):
    return replace(
        card, build=partial(prithvi.build_prithvi_vit, card.name, SIZES, card.patch)
    )


def positions(dates, side):
    """Compute get_3d_sincos_pos_embed of prithvi_mae.py with a class token: (1, 1 +
    dates * side^2, 64)."""
    times, rows, columns = torch.meshgrid(
        torch.arange(dates), torch.arange(side), torch.arange(side), indexing="ij"
    )
    parts = [waves(24, columns), waves(24, rows), waves(16, times)]
    patches = torch.cat([torch.from_numpy(part) for part in parts], dim=1).float()
    return torch.cat([torch.zeros(1, 64), patches])[None]


class Reference(nn.Module):
    """PrithviViT of prithvi_mae.py in plain torch."""

    def __init__(self, patch, dates):
        super().__init__()
        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Conv3d(
            6, 64, (1, patch, patch), stride=(1, patch, patch)
        )
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 64))
        self.register_buffer("pos_embed", positions(dates, 224 // patch))
        self.blocks = nn.ModuleList(
            Block(64, 4, qkv_bias=True, norm_layer=nn.LayerNorm) for _ in range(2)
        )
        self.norm = nn.LayerNorm(64)

    def forward(self, x):
        """Compute the tokens of images (B, 6, dates, 224, 224)."""
        x = self.patch_embed.proj(x).flatten(2).transpose(1, 2) + self.pos_embed[:, 1:]
        x = torch.cat(
            [(self.cls_token + self.pos_embed[:, :1]).expand(len(x), -1, -1), x], dim=1
        )
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


def reference(card, dates=1):
    torch.manual_seed(0)
    network = Reference(card.patch, dates).eval()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.1)
    return network


def write(path, card):
    """Write a masked autoencoder of four dates, with decoder and the encoders of date
    and place."""
    state = {
        f"encoder.{name}": tensor
        for name, tensor in reference(card).state_dict().items()
    }
    state |= {
        "encoder.pos_embed": positions(4, 224 // card.patch),
        "decoder.mask_token": torch.ones(1, 1, 8),
    }
    state |= {
        f"encoder.{name}_embed_enc.scale": torch.ones(1)
        for name in ("temporal", "location")
    }
    torch.save(state, path)
    return path


def images():
    return torch.randn(2, 6, 224, 224, generator=torch.Generator().manual_seed(1))


@CASES
def test_features_match_the_network_of_one_date(card, tmp_path):
    backbone = load_encoder_weights(
        small(card), 224, write(tmp_path / "prithvi.pt", card)
    )
    with torch.inference_mode():
        expected = reference(card)(images()[:, :, None])
        assert (backbone.vit.forward_features(images()) - expected).abs().max() <= 1e-5
    left_out = {
        "decoder.mask_token",
        "encoder.location_embed_enc.scale",
        "encoder.temporal_embed_enc.scale",
    }
    assert set(backbone.left_out) == left_out


@pytest.mark.authors
@CASES
def test_features_match_the_authors_code(card, tmp_path, monkeypatch):
    if not (folder := os.environ.get("RSFT_PRITHVI")):
        pytest.skip(
            "no folder with prithvi_mae.py of TerraTorch or Hugging Face: set"
            " RSFT_PRITHVI"
        )
    monkeypatch.syspath_prepend(folder)
    options = {
        "patch_size": (1, card.patch, card.patch),
        "coords_encoding": ["time", "location"],
        **SIZES,
    }
    code = importlib.import_module("prithvi_mae")
    torch.manual_seed(0)
    model = code.PrithviMAE(
        num_frames=4,
        decoder_embed_dim=32,
        decoder_depth=1,
        decoder_num_heads=2,
        **options,
    ).eval()
    one_date = code.PrithviViT(num_frames=1, in_chans=6, **options).eval()
    state = model.encoder.state_dict() | {"pos_embed": one_date.pos_embed}
    one_date.load_state_dict(state)
    torch.save(model.state_dict(), tmp_path / "mae.pt")
    vit = load_encoder_weights(small(card), 224, tmp_path / "mae.pt").vit
    with torch.inference_mode():
        expected = one_date.forward_features(images())[-1]
        assert (vit.forward_features(images()) - expected).abs().max() <= 1e-5


def test_converted_weights_are_the_same_encoder(tmp_path):
    path = write(tmp_path / "prithvi.pt", LARGE)
    backbone = convert_weights(small(LARGE), path, tmp_path / "one.safetensors")
    assert (
        load_encoder_weights(small(LARGE), 224, tmp_path / "one.safetensors").sha256
        == backbone.sha256
    )


def test_other_files_and_sizes(tmp_path):
    path = write(tmp_path / "prithvi.pt", LARGE)
    assert load_encoder_weights(small(LARGE), 64, path).vit(
        torch.zeros(1, 6, 64, 64)
    ).shape == (1, 64)
    with pytest.raises(RequestError, match=mentions("multiples of 14", "not 100")):
        HUGE.build(100)
    state = torch.load(path)
    # cubes of two dates
    state["encoder.patch_embed.proj.weight"] = torch.ones(64, 6, 2, 16, 16)
    torch.save(state, tmp_path / "cubes.pt")
    with pytest.raises(
        WeightsError, match=mentions("patch_embed.proj.weight is float32 64x6x2x16x16")
    ):
        load_encoder_weights(small(LARGE), 224, tmp_path / "cubes.pt")
    with pytest.raises(WeightsError, match="of another shape"):
        load_encoder_weights(small(HUGE), 224, path)


def test_sites_merge_and_kernel(tmp_path):
    vit = load_encoder_weights(
        small(LARGE), 64, write(tmp_path / "prithvi.pt", LARGE)
    ).vit
    assert is_standard_block(vit.blocks[0])
    adapted = attach(vit, LoRA(rank=2, positions="qkvo12"))
    assert len(adapted.sites) == 12
    x = images()[:, :, :64, :64]
    with torch.no_grad():
        for parameter in adapted.theta:
            parameter.normal_(std=0.1)
        before = adapted.forward_features(x)
        assert (adapted.merge().forward_features(x) - before).abs().max() <= 1e-4


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "repository", "parameters"),
    [
        ("prithvi_eo_v2_300", "Prithvi-EO-2.0-300M", 304_088_064),
        ("prithvi_eo_v2_300_tl", "Prithvi-EO-2.0-300M-TL", 304_088_064),
        ("prithvi_eo_v2_600", "Prithvi-EO-2.0-600M", 631_517_440),
        ("prithvi_eo_v2_600_tl", "Prithvi-EO-2.0-600M-TL", 631_517_440),
    ],
)
def test_cards(name, repository, parameters):
    card = find_card(name)
    assert card.restrictions == () and card.unit == "uint16"
    assert (
        card.bands == ("B02", "B03", "B04", "B8A", "B11", "B12")
        and card.mean[3] == 2734
    )
    file = repository.replace("Prithvi-EO-2.0-", "Prithvi_EO_V2_").replace("-", "_")
    assert (
        card.weights.page == f"https://huggingface.co/ibm-nasa-geospatial/{repository}"
    )
    assert card.weights.url.endswith(f"/{file}.pt") and card.weights.url.startswith(
        f"{card.weights.page}/resolve/"
    )
    with torch.device("meta"):
        vit = card.build(224)
    assert sum(x.numel() for x in vit.parameters()) == parameters


def test_positions_of_another_form_keep_their_values_and_are_refused_later():
    state = {"pos_embed": torch.ones(9, 64), "patch_embed.proj.weight": torch.ones(4)}
    converted = prithvi.convert_prithvi(state, 16)
    assert {name: x.shape for name, x in converted.items()} == {
        name: x.shape for name, x in state.items()
    }
