"""AI2's vessel network: random weights in the layout of its checkpoint, and a
restatement of the published network."""

import os
from dataclasses import replace
from functools import partial

import geopandas
import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models import swin_transformer as published
from torchvision.models import swin_v2_b

from rsft.backbones import catalog, registered
from rsft.backbones.convert import convert_weights
from rsft.backbones.loading import load_encoder_weights
from rsft.errors import RequestError, WeightsError
from rsft.models.bundle.bundle import Bundle
from rsft.models.loading import load_classifier
from rsft.models.starting_bundle import write_starting_bundle
from rsft.plugins.encoders import ai2_vessels
from tests.helpers.file_server import serving_folder
from tests.helpers.scene_stores import prepare
from tests.helpers.scenes import simulate_sea
from tests.helpers.sentinel1 import write_product

(CARD,) = ai2_vessels.CARDS
CLASSES = CARD.classifier.classes
OUTPUTS = {
    "heading_x": 1,
    "heading_y": 1,
    "length": 1,
    "ship_type": len(CLASSES),
    "speed": 1,
    "width": 1,
}
ARCHITECTURE = {"embed_dim": 16, "depths": [2, 2, 2, 2], "num_heads": [1, 2, 4, 8]}
BUILD = partial(ai2_vessels.build_vessel_network, **ARCHITECTURE)
SMALL = replace(CARD, build=BUILD)
FILE = CARD.weights.file
SHIPS = ((120, 150), (260, 330), (380, 140))


class Decoder(nn.Module):
    """One property of a vessel: a convolution, the maximum, two layers and the last."""

    def __init__(self, channels, outputs):
        super().__init__()
        convolution = nn.Sequential(nn.Conv2d(channels, 128, 3, padding=1), nn.ReLU())
        first = nn.Sequential(nn.Linear(128, 512), nn.ReLU())
        second = nn.Sequential(nn.Linear(512, 512), nn.ReLU())
        self.conv_layers = nn.Sequential(convolution)
        self.fc_layers = nn.Sequential(first, second)
        self.output_layer = nn.Linear(512, outputs)

    def forward(self, maps):
        pooled = self.conv_layers(maps).amax(dim=(2, 3))
        return self.output_layer(self.fc_layers(pooled))


class VesselNetwork(nn.Module):
    """The published network with random weights; its last norm is not used."""

    def __init__(self, swin):
        super().__init__()
        width = swin.features[0][0].out_channels
        swin.features[0][0] = nn.Conv2d(2, width, 4, stride=4)
        encoder = nn.Module()
        encoder.model = swin
        self.encoder = nn.ModuleList([encoder])
        decoders = {}
        for name, outputs in OUTPUTS.items():
            decoders[name] = nn.ModuleList([Decoder(8 * width, outputs)])
        self.decoders = nn.ModuleDict(decoders)
        for parameter in self.parameters():
            parameter.data.add_(torch.randn_like(parameter), alpha=0.02)
        self.eval()

    def forward(self, x):
        maps = self.encoder[0].model.features(x).permute(0, 3, 1, 2)
        return self.decoders["ship_type"][0](maps)


def small_network():
    torch.manual_seed(0)
    return VesselNetwork(
        published.SwinTransformer(
            [4, 4],
            window_size=[8, 8],
            block=published.SwinTransformerBlockV2,
            downsample_layer=published.PatchMergingV2,
            **ARCHITECTURE,
        )
    )


def write_checkpoint(folder, network, **entries):
    """Write what Lightning's trainer writes, and return the path."""
    state = {f"model.{name}": x for name, x in network.state_dict().items()}
    first = next(iter(state.values()))
    content = {
        "epoch": 7,
        "global_step": 1000,
        "pytorch-lightning_version": "2.5.1",
        "state_dict": state,
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"ready": 8}}},
        "callbacks": {"ManagedBestLastCheckpoint": {"best_value": 0.5}},
        "optimizer_states": [{"state": {0: {"exp_avg": first}}, "param_groups": []}],
        "lr_schedulers": [{"factor": 0.2, "mode_worse": float("inf")}],
    }
    path = folder / FILE
    torch.save(content | entries, path)
    return path


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """Return a folder of weights with the file of a small network of this name."""
    folder = tmp_path / "weights"
    folder.mkdir()
    monkeypatch.setenv("RSFT_WEIGHTS", str(folder))
    monkeypatch.setitem(registered.CARDS, CARD.name, SMALL)
    return folder


def relative_error(actual, expected):
    return float((actual - expected).norm() / expected.norm())


@pytest.mark.parametrize("size", [64, 96, 128, 160, 256])
def test_bundle_gives_the_logits_of_the_published_network(weights, tmp_path, size):
    network = small_network()
    write_checkpoint(weights, network)
    write_starting_bundle(replace(SMALL, size=size), tmp_path / "bundle")
    bundle = Bundle.load(tmp_path / "bundle")
    x = 2 * torch.rand(3, 2, size, size)
    with torch.inference_mode():
        expected = network(x)
        logits = load_classifier(bundle, "cpu")(x)
    assert relative_error(logits, expected) < 1e-5
    assert bundle.classes == CLASSES and bundle.calibrator is None
    (license_entry,) = bundle.licenses
    assert license_entry.license == "Apache-2.0" and not license_entry.restrictions


@pytest.mark.slow
def test_real_shapes(tmp_path):
    torch.manual_seed(0)
    network = VesselNetwork(swin_v2_b())
    path = write_checkpoint(tmp_path, network)
    backbone = load_encoder_weights(CARD, 128, path)
    x = 2 * torch.rand(1, 2, 128, 128)
    vit = backbone.vit
    layer = network.decoders["ship_type"][0].output_layer
    with torch.inference_mode():
        features = vit.forward_head(vit.forward_features(x), pre_logits=True)
        assert relative_error(layer(features), network(x)) < 1e-5
    assert sum(parameter.numel() for parameter in vit.parameters()) == 88_398_200


def test_what_the_encoder_lacks_is_listed_and_conversion_keeps_the_hash(tmp_path):
    path = write_checkpoint(tmp_path, small_network())
    left_out = load_encoder_weights(SMALL, 128, path).left_out
    others = [name for name in left_out if "relative_" not in name]
    for name in OUTPUTS:
        count = 2 if name == "ship_type" else 8
        prefix = f"model.decoders.{name}."
        assert sum(x.startswith(prefix) for x in others) == count
    rest = {x for x in others if not x.startswith("model.decoders.")}
    unused = {
        f"{name}.{kind}" for name in ("norm", "head") for kind in ("weight", "bias")
    }
    assert rest == {f"model.encoder.0.model.{name}" for name in unused}
    converted = convert_weights(SMALL, path, tmp_path / "x.safetensors")
    again = load_encoder_weights(SMALL, 128, tmp_path / "x.safetensors")
    assert again.sha256 == converted.sha256


class Payload:
    """An object whose pickle makes a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_no_code_of_the_file_is_run(tmp_path):
    payload = Payload(tmp_path / "executed")
    network = small_network()
    path = write_checkpoint(tmp_path, network, hyper_parameters={"model": payload})
    with pytest.raises(WeightsError, match="no code in it was run"):
        load_encoder_weights(SMALL, 128, path)
    assert not payload.path.exists()


def test_incomplete_files_and_other_encoders_give_no_bundle(weights, tmp_path, rsft):
    network = small_network()
    del network.decoders["ship_type"][0].output_layer
    write_checkpoint(weights, network)
    with pytest.raises(WeightsError, match=r"classifier .* is not in the file"):
        write_starting_bundle(SMALL, tmp_path / "bundle")
    other = "vit_tiny_patch8_64.simship"
    code, printed = rsft("weights", "get", other, "--bundle", "bundle")
    assert code == 2 and "contain no classifier" in printed
    code, printed = rsft("weights", "get", other, CARD.name, "--bundle", "bundle")
    assert code == 2 and "give one name" in printed
    assert not (tmp_path / "bundle").exists()


def simulate_product(folder):
    """Write a Sentinel-1 product of a calm sea with three ships; return its bands."""
    bands = {}
    for number, name in enumerate(("vv", "vh")):
        band = simulate_sea(512, 512, seed=number) * (60 - 30 * number)
        for row, col in SHIPS:
            band[row - 3 : row + 3, col - 12 : col + 12] = 2500 - 1200 * number
        bands[name] = np.rint(band).astype(np.uint16)
    return write_product(folder, bands), np.stack(list(bands.values()))


def test_from_a_server_and_a_product_to_typed_ships(
    weights, tmp_path, rsft, monkeypatch
):
    served = tmp_path / "served"
    served.mkdir()
    network = small_network()
    write_checkpoint(served, network)
    safe, pixels = simulate_product(tmp_path)
    with serving_folder(served) as server:
        remote = replace(CARD.weights, url=server.url(FILE))
        card = replace(SMALL, weights=remote)
        monkeypatch.setitem(registered.CARDS, CARD.name, card)
        monkeypatch.setattr(catalog, "listed_encoders", lambda: ())
        code, printed = rsft("weights", "get", CARD.name, "--bundle", "vessels")
        assert code == 0, printed
        assert "recorded" in printed and "no checksum is published" in printed
        assert "length, width, speed and heading" in printed
    code, printed = rsft(
        "predict", "vessels", safe, "--detect", "--land", "none", "-o", "ships.gpkg"
    )
    assert code == 0, printed
    assert "the bundle is not calibrated" in printed
    ships = geopandas.read_file("ships.gpkg").sort_values("row")
    assert len(ships) == len(SHIPS)
    padded = np.pad(pixels, ((0, 0), (64, 64), (64, 64))).astype(np.float32)
    for (_, ship), position in zip(ships.iterrows(), SHIPS, strict=True):
        row, col = round(ship["row"]), round(ship["col"])
        assert np.abs(np.subtract(position, (row, col))).max() <= 2
        chip = padded[:, row : row + 128, col : col + 128] / 250
        with torch.inference_mode():
            expected = network(torch.from_numpy(chip)[None]).softmax(1)[0]
        assert ship["class"] == CLASSES[int(expected.argmax())]
        assert ship["probability"] == pytest.approx(float(expected.max()), abs=0.05)


@pytest.mark.slow
def test_own_classes_are_added(weights, tmp_path, rsft):
    write_checkpoint(weights, small_network())
    write_starting_bundle(SMALL, tmp_path / "vessels")
    safe, _ = simulate_product(tmp_path)
    labels = tmp_path / "labels.csv"
    names = ("dredger", "cargo", "dredger", "cargo")
    points = (*SHIPS, (60, 400))
    rows = []
    for name, (row, col) in zip(names, points, strict=True):
        rows.append(f"{col},{row},{name}")
    labels.write_text("\n".join(["col,row,class", *rows]))
    prepare(
        safe,
        tmp_path / "store",
        at=labels,
        crs="pixel",
        size="128",
        unit="sentinel1_dn",
        split="object",
        val=0.5,
        jobs=1,
    )
    code, printed = rsft(
        "finetune", "--from", "vessels", "data.root=store", "train.epochs=1",
        "evaluate.baselines=0",
    )  # fmt: skip
    assert code == 0, printed
    bundle = Bundle.load(tmp_path / "runs" / CARD.name)
    assert set(bundle.classes) == {*CLASSES, "dredger"}
    assert bundle.contract.units.keys() == {"sentinel1_dn"}


def test_a_card_without_a_classifier_has_no_bundle(tmp_path):
    with pytest.raises(RequestError, match="contain no classifier"):
        write_starting_bundle(replace(SMALL, classifier=None), tmp_path / "bundle")
