"""ResNet, ConvNeXt and Swin V2 from the recipe to bundle, report, prediction and
export."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from rsft.backbones import registered
from rsft.errors import RequestError
from rsft.inference.export.export import export_bundle
from rsft.models.bundle.bundle import Bundle
from rsft.models.inspection.verify import build_meta_classifier
from rsft.models.loading import (
    build_classifier,
    load_encoder,
    load_merged_classifier,
    load_unmerged_classifier,
)
from rsft.recipe.load import load_recipe
from rsft.training.finetune import finetune
from tests.helpers.hierarchical_models import small_card, write_small_weights
from tests.helpers.plugins import needs_plugin

pytestmark = pytest.mark.slow

RECIPE = """\
# Bars
# rsft finetune bars.yaml
data: {root: ROOT, size: 64, augment: sar}
backbone: {name: "timm:NAME", weights: WEIGHTS, pool: avg}
peft: {rank: 2, positions: all}
meta: {outer_every: 2, lr: 0.05, warmup: 0}
train: {epochs: 1, batch_size: 8, lr: 0.02}
evaluate: {batch_size: 32, baselines: 0}
"""
SITES = {
    "resnet50": [
        f"blocks.{block}.{name}"
        for block in range(5)
        for name in ("conv1", "conv2", "conv3", "downsample")
    ],
    "convnext_tiny": [
        f"blocks.{block}.{name}" for block in range(5) for name in ("mlp1", "mlp2")
    ],
    "swinv2_tiny_window8_256": [
        f"blocks.{block}.{name}"
        for block in range(4)
        for name in ("q", "k", "v", "out", "mlp1", "mlp2")
    ],
}
SITES["resnet50"].remove("blocks.2.downsample")
NAME = pytest.mark.parametrize("name", SITES)


@pytest.fixture
def recipe(root, tmp_path, monkeypatch, name):
    """A recipe with a small network of random weights."""
    card = small_card(name)
    monkeypatch.setitem(registered.CARDS, card.name, card)
    weights = write_small_weights(name, tmp_path)
    text = (
        RECIPE.replace("ROOT", str(root))
        .replace("NAME", name)
        .replace("WEIGHTS", str(weights))
    )
    (tmp_path / "bars.yaml").write_text(text)
    return tmp_path / "bars.yaml"


@pytest.mark.slow
@NAME
def test_from_recipe_to_prediction(rsft, recipe, root, tmp_path, name):
    code, printed = rsft("finetune", recipe, "--runs", tmp_path / "runs", "--quiet")
    assert not code, printed
    folder = tmp_path / "runs/bars/001"
    scales = pd.read_csv(folder / "modulator.csv")
    sites = [
        f"blocks.{block}.{position}"
        for block, position in zip(scales["block"], scales["position"], strict=True)
    ]
    assert sites == SITES[name] and (scales["value"] != 1).any()
    metadata = json.loads((folder / "run.json").read_text())
    assert metadata["modulator_parameters"] == len(sites)
    assert "block 1" in (folder / "report.html").read_text()

    bundle = Bundle.load(folder)
    model = build_meta_classifier(bundle)
    assert {key: tensor.shape for key, tensor in model.learned_state().items()} == {
        key: tensor.shape for key, tensor in bundle.tensors.items()
    }
    images = torch.randn(
        4,
        len(bundle.contract.planes),
        64,
        64,
        generator=torch.Generator().manual_seed(0),
    )
    with torch.no_grad():
        unmerged = load_unmerged_classifier(bundle, "cpu")(images)
        merged = load_merged_classifier(bundle)(images)
    assert (unmerged - merged).abs().max() < 1e-4

    page = (folder / "report.html").read_text()
    assert all(f">{position}<" in page for position in scales["position"])
    code, printed = rsft(
        "predict", folder, root, "-o", tmp_path / "ships.csv", "--engine", "torch"
    )
    assert not code, printed
    code, printed = rsft("bundle", "show", folder)
    assert not code and "blocks" in printed


@needs_plugin("exports")
@pytest.mark.slow
@NAME
@pytest.mark.usefixtures("onnx_operators")
def test_exports(recipe, tmp_path, name):
    pytest.importorskip("onnxscript")
    folder = finetune(
        load_recipe(recipe, ["train.epochs=1", "meta=null"]), tmp_path / "runs"
    ).folder
    onnx = export_bundle(folder, "onnx", "fp32", tmp_path / "onnx")
    assert onnx.metadata["checked"]["largest"] < 1e-3
    peft = export_bundle(folder, "peft", "fp32", tmp_path / "peft")
    assert (peft.folder / "adapter_model.safetensors").is_file()
    readme = (peft.folder / "README.md").read_text("utf-8")
    note = "qkv_bias_separate = True" in readme
    # timm reads the weight of its qkv layers
    assert (
        note == ("before_loading" in peft.metadata["peft"]) == name.startswith("swinv2")
    )
    with pytest.raises(RequestError, match="cosine head"):
        export_bundle(folder, "timm", "fp32", tmp_path / "timm")


@NAME
def test_frozen_features_are_those_of_timm(recipe, name):
    recipe = load_recipe(recipe, ["meta=null"])
    encoder = load_encoder(recipe, ["gray"])
    classifier = build_classifier(encoder, 3, recipe)
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    expected = encoder.vit.forward_head(
        encoder.vit.forward_features(images), pre_logits=True
    )
    assert classifier.features(images).shape == (2, encoder.width)
    np.testing.assert_allclose(
        classifier.features(images).detach(), expected.detach(), atol=1e-5
    )


@pytest.mark.parametrize("name", ["resnet50"])
def test_what_does_not_fit_is_refused(recipe, tmp_path, name):
    for setting, message in [
        ("backbone.pool=token", "timm:resnet50 has no class token"),
        ("backbone.blocks=2", "has stages of different resolution"),
        (
            "peft.positions=qv",
            (
                "the site blocks.0.q; positions of that block: conv1, conv2,"
                " conv3, downsample"
            ),
        ),
        (
            "peft={method: vpt-deep}",
            "vpt needs a plain vision transformer, and ResNet is not one",
        ),
    ]:
        with pytest.raises(RequestError) as caught:
            finetune(load_recipe(recipe, [setting, "meta=null"]), tmp_path / "runs")
        assert message in str(caught.value)
