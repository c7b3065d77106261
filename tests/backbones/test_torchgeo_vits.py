"""Compare our cards and the index with the installed TorchGeo, and load checkpoints
that its constructors write."""

from argparse import Namespace
from dataclasses import replace

import pytest
import torch
import torchgeo.models as published
from torch import nn
from torchgeo.models import get_weight
from torchgeo.models.scale_mae import get_2d_sincos_pos_embed_with_resolution
from torchvision.transforms.v2 import Normalize

from rsft.backbones import torchgeo_vits
from rsft.backbones.card import Remote
from rsft.backbones.input_layer import fit_inputs
from rsft.backbones.loading import load_encoder_weights
from rsft.backbones.torchgeo_vits import PublishedWeights, published_weights
from rsft.data.imagery.bands import SENTINEL2
from rsft.errors import RequestError, WeightsError
from tests.helpers.messages import mentions
from tests.helpers.versions import needs

FAMILIES = (
    "ViTSmall16",
    "ViTBase16",
    "ViTLarge16",
    "ViTHuge14",
    "ViTSmall14_DINOv2",
    "ViTBase14_DINOv2",
)
HIERARCHICAL = (
    "ResNet18",
    "ResNet50",
    "ResNet152",
    "Swin_T",
    "Swin_S",
    "Swin_B",
    "Swin_V2_T",
    "Swin_V2_B",
)
ENUMS = [
    getattr(published, f"{family}_Weights")
    for family in (*FAMILIES, *HIERARCHICAL, "ScaleMAELarge16")
]
CLOSP = ("ViTSmall16", "ViTLarge16", "ResNet50")
SECO = {f"ResNet{depth}_Weights.SENTINEL2_RGB_SECO" for depth in (18, 50)}
UNITLESS = {f"{family}_Weights.SENTINEL1_GRD_CLOSP" for family in CLOSP} | SECO
UNITLESS.add("ResNet50_Weights.SENTINEL1_GRD_GEOCLOSP")
S1 = "ViTSmall16_Weights.SENTINEL1_GRD_MAE"


def card(name):
    result = torchgeo_vits.torchgeo_card(name)
    assert result is not None
    return result


def load(folder, our_card, content, size=224):
    """Load a file with some content as the weights of a card."""
    torch.save(content, folder / "x.pth")
    return load_encoder_weights(our_card, size, folder / "x.pth")


def test_every_vision_transformer_resnet_and_swin_of_torchgeo_has_a_card():
    assert {str(member) for enum in ENUMS for member in enum} == set(
        torchgeo_vits.torchgeo_names()
    ) | UNITLESS


def test_most_weights_load():
    names = set(torchgeo_vits.torchgeo_names())
    everything = set(published_weights())
    radar = {name for name in everything if "SENTINEL1" in name}
    assert len(names & everything) >= 95 and len(names & radar) == 15
    # in TorchGeo 0.10
    assert radar - names - UNITLESS <= {"Tessera_Weights.TESSERA_SENTINEL1_ENCODER"}


def our_band_name(band):
    """Return our name of a Sentinel-2 band: B01 for B1, B8A for B8a."""
    return (
        "B8A"
        if band in ("B8a", "B8A")
        else band
        if band == "NDVI"
        else f"B{band[1:].zfill(2)}"
    )


@pytest.mark.parametrize(
    "member", [m for enum in ENUMS for m in enum if str(m) not in UNITLESS], ids=str
)
def test_cards_match_torchgeo(member):
    assert published.get_weight(str(member)) is member
    our_card = card(str(member))
    meta = member.meta
    assert isinstance(our_card.weights, Remote)
    assert our_card.weights.url == member.url.replace(
        "https://hf.co/", "https://huggingface.co/"
    )
    bands = meta.get("bands") or ["R", "G", "B"]
    if str(member).endswith("MS_SATLAS"):
        bands = ["TCI_R", "TCI_G", "TCI_B", *bands[3:]]
        assert our_card.bands == tuple(bands) and our_card.unit == "uint16"
    else:
        assert our_card.bands == tuple(
            map(our_band_name, bands) if "SENTINEL2" in str(member) else bands
        )
    assert (member.meta["dataset"] or "") in our_card.about
    assert our_card.size == meta.get(
        "img_size", 256 if "Swin_V2" in str(member) else 224
    )
    ours = torch.full((meta["in_chans"], 1, 1), 100.0)
    theirs = ours.clone()
    for step in member.transforms.modules():
        theirs = step(theirs) if isinstance(step, Normalize) else theirs
    is_scaled = (
        max(
            next(
                step
                for step in member.transforms.modules()
                if isinstance(step, Normalize)
            ).std
        )
        < 1
    )
    ours = ours / 255 if our_card.unit == "uint8" and not is_scaled else ours
    mean = torch.tensor(our_card.mean)[:, None, None]
    std = torch.tensor(our_card.std)[:, None, None]
    torch.testing.assert_close((ours - mean) / std, theirs)


def test_bands_and_units():
    assert (card(S1).bands, card(S1).unit) == (("VV", "VH"), "db")
    assert (card(S1).mean, card(S1).std) == ((-12.59, -20.26), (5.26, 5.91))
    sentinel2 = card("ViTBase16_Weights.SENTINEL2_ALL_MAE")
    assert (sentinel2.bands, sentinel2.unit) == (SENTINEL2, "uint16")
    assert (sentinel2.mean, sentinel2.std) == ((0.0,) * 13, (10_000.0,) * 13)
    softcon = card("ViTSmall14_DINOv2_Weights.SENTINEL2_ALL_SOFTCON")
    assert softcon.unit == "uint16" and (softcon.mean[0], softcon.std[-1]) == (
        1612.9,
        1142.9,
    )
    landsat = card("ViTSmall16_Weights.LANDSAT_TM_TOA_MOCO")
    assert (landsat.unit, landsat.mean, landsat.std) == (
        "uint8",
        (0.0,) * 7,
        (1.0,) * 7,
    )
    fmow = card("ScaleMAELarge16_Weights.FMOW_RGB")
    assert (fmow.bands, fmow.unit, fmow.mean) == (
        ("R", "G", "B"),
        "uint8",
        (0.485, 0.456, 0.406),
    )


def test_files_of_an_unknown_repository_have_no_known_license(monkeypatch):
    weights = replace(
        published_weights()[S1],
        url="https://hf.co/someone/new/resolve/1f/x-00112233.pth",
    )
    monkeypatch.setattr(torchgeo_vits, "published_weights", lambda: {S1: weights})
    new = card(S1)
    assert new.license == "unknown" and isinstance(new.weights, Remote)
    assert (new.weights.page, new.weights.sha256) == (
        "https://huggingface.co/someone/new",
        "00112233",
    )


def test_checksums_come_from_file_names_or_the_hub():
    checksums = {
        name: card(name).weights.sha256 for name in torchgeo_vits.torchgeo_names()
    }
    assert checksums[S1] is None
    assert checksums["ViTSmall16_Weights.LANDSAT_TM_TOA_MOCO"] == "a1c967d8"
    whole = {
        name: digest
        for name, digest in checksums.items()
        if digest and len(digest) == 64
    }
    assert len(whole) == 4
    for name, digest in whole.items():
        assert f"-{digest[:8]}.pth" in card(name).weights.file.replace(
            "scalemae-98ed9821", "scalemae-386989c9"
        )


def test_licenses_are_those_of_the_documentation_of_torchgeo():
    licenses = {}
    for name in torchgeo_vits.torchgeo_names():
        licenses.setdefault(card(name).license, set()).add(name.rpartition("_")[2])
    licenses.pop("unknown", None)  # GASSL and the networks for Cityscapes
    assert licenses.pop("ODC-BY", {"SATLAS"}) == {"SATLAS"}
    assert licenses.pop("Apache-2.0", {"DECUR"}) <= {"DECUR", "SECO"}
    assert licenses.pop("MIT", {"ECO"}) == {"ECO"}
    assert licenses == {
        "CC0-1.0": {"MOCO", "SIMCLR"},
        "CC-BY-4.0": {"DINO", "MOCO", "MAE", "FGMAE", "SOFTCON"},
        "CC-BY-NC-4.0": {"RGB"},  # Scale-MAE
        "CreativeML-OpenRAIL-M": {"CLOSP", "GEOCLOSP"},
    }


def test_prefix_is_optional():
    assert card(f"torchgeo:{S1}").name == S1


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ViTSmall16_Weights.SENTINEL1_GRD_CLOSP", "neither unit nor normalization"),
        (
            "torchgeo:ResNet50_Weights.SENTINEL1_GRD_CLOSP",
            "neither unit nor normalization",
        ),
        (
            "ResNet50_Weights.SENTINEL2_RGB_SECO",
            "unit of its input does not follow from the normalizations",
        ),
        ("Unet_Weights.SENTINEL2_2CLASS_FTW", "no features of the whole image"),
        ("EarthLoc_Weights.SENTINEL2_RESNET50", "not a timm model"),
    ],
)
def test_unsupported_networks_are_refused_with_the_reason(name, message):
    with pytest.raises(RequestError) as caught:
        torchgeo_vits.torchgeo_card(name)
    assert message in str(caught.value)


def test_names_of_other_sources_have_no_torchgeo_card():
    assert torchgeo_vits.torchgeo_card("vit_base_patch16_224.mae") is None
    assert torchgeo_vits.torchgeo_card("torchgeo:nothing") is None


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [S1, "ViTSmall14_DINOv2_Weights.SENTINEL1_GRD_SOFTCON"]
)
def test_torchgeo_file_loads_completely_with_equal_features(tmp_path, name):
    small14 = "DINOv2" in name
    torch.manual_seed(0)
    model = (
        published.vit_small_patch14_dinov2(in_chans=2, img_size=224)
        if small14
        else None
    )
    model = model or published.vit_small_patch16_224(in_chans=2)
    backbone = load(tmp_path, card(name), model.state_dict())
    assert backbone.left_out == (() if small14 else ("head.bias", "head.weight"))
    image = torch.randn(1, 2, 224, 224)
    with torch.inference_mode():
        torch.testing.assert_close(
            backbone.vit.forward_features(image), model.eval().forward_features(image)
        )


SWINS = {
    "Swin_V2_T_Weights.SENTINEL2_SI_MS_SATLAS": published.swin_v2_t,
    "Swin_V2_B_Weights.SENTINEL1_SI_SATLAS": published.swin_v2_b,
    "Swin_T_Weights.CITYSCAPES_SEMSEG": published.swin_t,
}


@pytest.mark.slow
@needs("timm", "1.0.31")
@pytest.mark.parametrize("name", SWINS)
def test_swin_of_torchvision_loads_completely_with_equal_features(tmp_path, name):
    torch.manual_seed(0)
    our_card = card(name)
    model = SWINS[name]()
    bands = len(our_card.bands)
    # as TorchGeo replaces it
    model.features[0][0] = nn.Conv2d(bands, model.features[0][0].out_channels, 4, 4)
    for parameter in model.parameters():
        parameter.data.add_(torch.randn_like(parameter), alpha=0.02)
    backbone = load(tmp_path, our_card, model.state_dict(), our_card.size)
    computed = {
        name.rpartition(".")[2]
        for name in backbone.left_out
        if not name.startswith("head.")
    }
    assert computed <= {"relative_position_index", "relative_coords_table"}
    assert {"head.weight", "head.bias"} <= set(backbone.left_out)
    image = torch.randn(1, bands, our_card.size, our_card.size)
    with torch.inference_mode():
        expected = model.eval().norm(model.features(image))
        torch.testing.assert_close(backbone.vit.forward_features(image), expected)


@pytest.mark.slow
def test_swin_with_a_missing_or_another_tensor_is_refused(tmp_path):
    our_card = card("Swin_T_Weights.CITYSCAPES_SEMSEG")
    state = published.swin_t().state_dict()
    weight = state.pop("features.1.1.mlp.0.weight")
    with pytest.raises(
        WeightsError, match=r"missing: layers\.0\.blocks\.1\.mlp\.fc1\.weight"
    ):
        load(tmp_path, our_card, state)
    with pytest.raises(WeightsError, match=r"not expected: decoder\.weight"):
        load(
            tmp_path,
            our_card,
            state | {"features.1.1.mlp.0.weight": weight, "decoder.weight": weight},
        )


@pytest.mark.slow
@pytest.mark.parametrize("size", [224, 96])
def test_resnet_of_torchgeo_loads_completely_with_equal_features(tmp_path, size):
    torch.manual_seed(0)
    model = published.resnet50(in_chans=2)
    backbone = load(
        tmp_path, card("ResNet50_Weights.SENTINEL1_ALL_MOCO"), model.state_dict(), size
    )
    assert backbone.left_out == ("fc.bias", "fc.weight") and backbone.width == 2048
    image = torch.randn(1, 2, size, size)
    with torch.inference_mode():
        torch.testing.assert_close(
            backbone.vit.forward_features(image), model.eval().forward_features(image)
        )


@pytest.mark.slow
def test_channels_of_a_resnet_are_adapted(tmp_path):
    our_card = card("ResNet50_Weights.SENTINEL1_ALL_MOCO")
    state = published.resnet50(in_chans=2).state_dict()
    backbone = load(tmp_path, our_card, state, 64)
    filters = backbone.vit.conv1.weight.clone()
    fitted = fit_inputs(backbone, ("HH",), None, "expand")
    assert fitted.bands == ("HH",) and fitted.mean == (-12.59,)
    torch.testing.assert_close(fitted.vit.conv1.weight, filters.sum(1, keepdim=True))
    assert fitted.vit.conv1.padding == (3, 3) and fitted.vit(
        torch.randn(1, 1, 64, 64)
    ).shape == (1, 2048)
    with pytest.raises(RequestError, match="takes 2 inputs"):
        fit_inputs(load(tmp_path, our_card, state, 64), ("HH",), None, "replicate")


@pytest.mark.slow
def test_training_checkpoint_loads_without_its_decoder(tmp_path):
    encoder = card(S1).build(224).state_dict()
    decoder = {
        "mask_token": torch.zeros(1, 1, 8),
        "decoder_pos_embed": torch.zeros(1, 197, 8),
    }
    decoder |= nn.ModuleDict(
        {"decoder_blocks": nn.Linear(8, 8), "decoder_pred": nn.Linear(8, 8)}
    ).state_dict()
    content = {"model": encoder | decoder, "args": Namespace(lr=1.0), "epoch": 99}
    assert load(tmp_path, card(S1), content).left_out == tuple(sorted(decoder))


@pytest.mark.slow
def test_unexpected_tensors_are_refused(tmp_path):
    name = "ViTSmall16_Weights.SENTINEL2_ALL_DINO"
    state = card(name).build(224).state_dict() | {"mask_token": torch.zeros(1, 1, 8)}
    with pytest.raises(
        WeightsError, match=mentions("150 of the 150", "not expected: mask_token")
    ):
        load(tmp_path, card(name), state)


def test_scale_mae_positions_are_those_of_one_meter_pixels():
    theirs = get_2d_sincos_pos_embed_with_resolution(
        32, 14, torch.ones(1), cls_token=True
    )
    shapes = {"cls_token": (1, 1, 32), "pos_embed": (1, 197, 32), "head.weight": (1,)}
    tensors = card("ScaleMAELarge16_Weights.FMOW_RGB").convert(
        {key: torch.zeros(x) for key, x in shapes.items()}
    )
    assert list(tensors) == ["cls_token", "pos_embed"]
    torch.testing.assert_close(tensors["pos_embed"], theirs)


@pytest.mark.slow
def test_scale_mae_becomes_a_plain_vision_transformer():
    our_card = card("ScaleMAELarge16_Weights.FMOW_RGB")
    shape = {
        "patch_size": 16,
        "embed_dim": 1024,
        "depth": 24,
        "num_heads": 16,
        "qkv_bias": True,
        "num_classes": 0,
    }
    with torch.device("meta"):
        ours = our_card.build(224)
        theirs = published.ScaleMAE(**shape)
    assert {k: v.shape for k, v in ours.state_dict().items()} == {
        k: v.shape for k, v in theirs.state_dict().items()
    }
    assert ours.norm.eps == 1e-6


def test_an_entry_has_the_values_of_its_enum():
    name = "ResNet50_Weights.SENTINEL1_ALL_MOCO"
    member = get_weight(name)
    assert published_weights()[name] == PublishedWeights(
        name=name,
        model="resnet50",
        url=member.url,
        dataset="SSL4EO-S12",
        method="moco",
        bands=("VV", "VH"),
        size=None,
        normalizations=(((-12.59, -20.26), (5.26, 5.91)),),
    )
