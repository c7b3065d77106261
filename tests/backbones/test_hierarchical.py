"""Cards and checked loading of ResNet, ConvNeXt, Swin and Swin V2."""

import pytest
import timm
import torch
from safetensors.torch import save_file

from rsft.backbones import fit_inputs, timm_vits
from rsft.backbones.input_layer import first_layer_path
from rsft.backbones.loading import find_card, load_encoder_weights
from rsft.errors import RequestError, WeightsError
from tests.helpers.messages import mentions

SIZES = {
    "resnet18": 72,
    "resnet26d": 96,
    "convnext_atto": 64,
    "convnextv2_atto": 96,
    "swin_tiny_patch4_window7_224": 224,
}


def stored(folder, name):
    """Write a classifier as on timm's hub; return the path and the model."""
    torch.manual_seed(0)
    model = timm.create_model(name).eval()
    for parameter in model.parameters():
        parameter.data.add_(torch.randn_like(parameter), alpha=0.02)
    save_file(model.state_dict(), folder / "x.safetensors")
    return folder / "x.safetensors", model


@pytest.mark.parametrize("name", timm_vits.HIERARCHICAL_NAMES)
def test_cards_of_listed_names(name):
    card = find_card(name)
    assert (card.name, card.patch, card.unit, card.bands) == (
        name,
        32,
        "uint8",
        ("R", "G", "B"),
    )
    assert card.size == {"swinv2_base_window12_192.ms_in22k": 192}.get(name, 224)
    assert card.license != "unknown" and card.weights.url.startswith(
        "https://huggingface.co/timm/"
    )


@pytest.mark.slow
@pytest.mark.parametrize(("name", "size"), SIZES.items())
def test_features_are_those_of_timm(tmp_path, name, size):
    path, model = stored(tmp_path, name)
    backbone = load_encoder_weights(find_card(f"timm:{name}"), size, path)
    image = torch.randn(2, 3, size, size)
    with torch.inference_mode():
        expected = model.forward_head(model.forward_features(image), pre_logits=True)
        features = backbone.vit.forward_head(
            backbone.vit.forward_features(image), pre_logits=True
        )
    assert features.shape == (2, backbone.width)
    assert set(backbone.left_out) <= {
        "fc.bias",
        "fc.weight",
        "head.fc.bias",
        "head.fc.weight",
    }
    torch.testing.assert_close(features, expected)


@pytest.mark.exhaustive
def test_windows_shrink_with_the_map_and_keep_the_scale_of_swin_v2(tmp_path):
    path, model = stored(tmp_path, "swinv2_tiny_window8_256")
    card = find_card("timm:swinv2_tiny_window8_256")
    small = load_encoder_weights(card, 64, path)
    native = load_encoder_weights(card, 256, path)
    windows = [stage.blocks[0].attn.window_size[0] for stage in small.vit.layers]
    assert windows == [8, 8, 4, 2] and small.sha256 == native.sha256
    tables = [
        encoder.vit.layers[3].blocks[0].attn.relative_coords_table[0, :, 0, 0]
        for encoder in (small, native)
    ]
    # offsets of -1, 0 and 1 pixels
    assert tables[0].tolist() == pytest.approx(tables[1][6:9].tolist())
    image = torch.randn(1, 3, 256, 256)
    with torch.inference_mode():
        torch.testing.assert_close(
            native.vit.forward_features(image), model.forward_features(image)
        )
        assert small.vit.forward_features(torch.randn(1, 3, 64, 64)).isfinite().all()


@pytest.mark.slow
def test_tables_of_swin_are_resampled_to_smaller_windows(tmp_path):
    path, model = stored(tmp_path, "swin_tiny_patch4_window7_224")
    small = load_encoder_weights(
        find_card("timm:swin_tiny_patch4_window7_224"), 64, path
    )
    name = "layers.{}.blocks.0.attn.relative_position_bias_table"
    shapes = [
        tuple(small.vit.get_parameter(name.format(stage)).shape) for stage in range(4)
    ]
    assert shapes == [(169, 3), (169, 6), (49, 12), (9, 24)]
    assert torch.equal(
        small.vit.get_parameter(name.format(0)), model.get_parameter(name.format(0))
    )


@pytest.mark.parametrize(
    ("name", "size", "try_"),
    [("convnext_atto", 48, 64), ("swin_tiny_patch4_window7_224", 100, 96)],
)
def test_sizes_that_would_lose_pixels_are_refused(name, size, try_):
    with pytest.raises(
        RequestError, match=mentions("multiples of 32", f"not {size}", f"try {try_}")
    ):
        find_card(f"timm:{name}").build(size)


@pytest.mark.slow
def test_incomplete_files_are_refused(tmp_path):
    path, model = stored(tmp_path, "resnet18")
    state = dict(model.state_dict())
    del state["layer2.0.bn1.running_var"]
    save_file(state, path)
    with pytest.raises(
        WeightsError, match=r"119 of the 120 .*missing: layer2\.0\.bn1\.running_var"
    ):
        load_encoder_weights(find_card("timm:resnet18"), 64, path)
    with pytest.raises(WeightsError, match="of the"):
        load_encoder_weights(find_card("timm:resnet34"), 64, path)


def test_first_blocks_alone_are_refused():
    with pytest.raises(RequestError, match="stages of different resolution"):
        find_card("timm:resnet18", blocks=2).build(64)


@pytest.mark.parametrize(
    ("name", "layer"),
    [("resnet18", "conv1"), ("resnet26d", "conv1.0"), ("convnext_atto", "stem.0"),
     ("swinv2_cr_tiny_224", "patch_embed.proj")],
)  # fmt: skip
def test_the_first_layer_is_found(name, layer):
    with torch.device("meta"):
        assert first_layer_path(timm.create_model(name)) == layer


@pytest.mark.slow
def test_planes_of_one_image_are_folded_or_refused(tmp_path):
    path, _ = stored(tmp_path, "convnext_atto")
    backbone = load_encoder_weights(find_card("timm:convnext_atto"), 64, path)
    gray = torch.rand(2, 1, 64, 64)
    mean = torch.tensor(backbone.mean)[:, None, None]
    std = torch.tensor(backbone.std)[:, None, None]
    with torch.inference_mode():
        expected = backbone.vit((gray - mean) / std)
        folded = fit_inputs(backbone, ("gray",), None, "fold")
        torch.testing.assert_close(
            folded.vit((gray - folded.mean[0]) / folded.std[0]),
            expected,
            atol=1e-4,
            rtol=1e-4,
        )
    path, _ = stored(tmp_path, "resnet18")
    with pytest.raises(RequestError, match=mentions("pads", "differ in mean")):
        fit_inputs(
            load_encoder_weights(find_card("timm:resnet18"), 64, path),
            ("gray",),
            None,
            "fold",
        )
