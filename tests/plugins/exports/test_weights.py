"""Exports for timm and PEFT load with these libraries alone, by the lines of their
README.md, or are refused."""

import json
import re
from dataclasses import replace
from functools import cache
from itertools import product

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from rsft.errors import RequestError
from rsft.inference.export.export import export_bundle
from rsft.models.bundle.bundle import Bundle, combine_bundles
from rsft.models.inspection.describe import EncoderOrigin
from rsft.models.loading import load_classifier
from rsft.plugins.exports import weights
from tests.helpers.messages import mentions
from tests.helpers.tiny_bundles import copy_with_early_head, perturbed_copy, timm_bundle

pytestmark = pytest.mark.slow

NETWORKS = {
    "token": {},
    "avg": {"backbone": {"pool": "avg"}},
    "sequential": {"peft": {"out_insertion": "sequential"}},
    "rotary": {
        "name": "vit_medium_patch16_rope_reg1_gap_256",
        "backbone": {"pool": "avg"},
    },
    "convolutions": {
        "name": "resnet18",
        "size": 64,
        "peft": {"positions": ["conv1", "conv2"]},
    },
    "stages": {
        "name": "convnext_atto",
        "size": 64,
        "peft": {"positions": ["mlp1", "mlp2"]},
    },
}
IN_PEFT = [name for name in NETWORKS if name != "sequential"]
"""Networks whose adapters PEFT's layout holds: it has no place for a bias."""


def saved(bundle, folder):
    """Save a bundle; return its folder, network inputs, and its logits for them."""
    bundle.save(folder / "bundle")
    size = bundle.contract.size
    planes = len(bundle.contract.planes)
    images = torch.randn(
        3, planes, size, size, generator=torch.Generator().manual_seed(0)
    )
    with torch.no_grad():
        return (
            folder / "bundle",
            images,
            load_classifier(bundle, "cpu").predict(images).logits,
        )


@pytest.fixture(scope="module")
def saved_network(tmp_path_factory):
    """Return what `saved` returns for a network of `NETWORKS` and a kind of head."""

    @cache
    def save_network(network, head="linear"):
        folder = tmp_path_factory.mktemp("network")
        return saved(
            timm_bundle(folder, head={"kind": head}, **NETWORKS[network]), folder
        )

    return save_network


def run_blocks(folder, images):
    """Run the Python of README.md; return its variables."""
    variables = {"images": images}
    for block in re.findall(
        r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL
    ):
        exec(block.replace("FOLDER", str(folder)), variables)
    return variables


@pytest.mark.slow
@pytest.mark.parametrize("network", NETWORKS)
def test_timm_loads_the_folder(saved_network, tmp_path, network):
    bundle, images, expected = saved_network(network)
    result = export_bundle(bundle, "timm", output_dir=tmp_path / "out")
    assert result.metadata["checked"]["largest"] < 1e-5
    torch.testing.assert_close(
        run_blocks(result.folder, images)["logits"], expected, atol=1e-5, rtol=1e-5
    )
    config = json.loads((result.folder / "config.json").read_text())
    assert (
        config["label_names"] == ["barge", "ferry", "tug"]
        and config["num_classes"] == 3
    )
    assert config["pretrained_cfg"]["input_size"] == [
        3,
        images.shape[2],
        images.shape[3],
    ]
    # those of timm's own weights
    assert not {"url", "hf_hub_id", "tag", "license"} & set(config["pretrained_cfg"])


def test_the_pipeline_of_transformers_gives_the_probabilities(saved_network, tmp_path):
    transformers = pytest.importorskip(
        "transformers", reason="transformers is not installed"
    )
    folder, _, _ = saved_network("token")
    out = export_bundle(folder, "timm", output_dir=tmp_path / "out").folder
    chip = np.random.default_rng(0).integers(0, 256, (32, 32, 1), np.uint8)
    bundle = Bundle.load(folder)
    inputs = torch.from_numpy(bundle.contract.to_input(chip)[None])
    with torch.no_grad():
        expected = load_classifier(bundle, "cpu").predict(inputs).logits.softmax(1)[0]
    rows = transformers.pipeline("image-classification", model=str(out))(
        Image.fromarray(chip[:, :, 0]), top_k=3
    )
    scores = {row["label"]: row["score"] for row in rows}
    np.testing.assert_allclose(
        [scores[name] for name in bundle.classes], expected, atol=1e-5
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "head"),
    [*product(IN_PEFT, ["linear"]), ("token", "cosine"), ("stages", "cosine"),
     *(pytest.param(network, "cosine", marks=pytest.mark.exhaustive) for network in IN_PEFT[1:-1])],
)  # fmt: skip
def test_peft_loads_the_folder(saved_network, tmp_path, network, head):
    pytest.importorskip("peft", reason="Hugging Face PEFT is not installed")
    bundle, images, expected = saved_network(network, head)
    folder = export_bundle(bundle, "peft", output_dir=tmp_path / "out").folder
    assert (
        json.loads((folder / "adapter_config.json").read_text())[
            "base_model_name_or_path"
        ]
        == "base"
    )
    logits = run_blocks(folder, images)["logits"]
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)


def test_peft_names_a_base_on_the_hub_and_its_hash(tmp_path, monkeypatch):
    """The base is loaded as timm does: position embeddings are resampled to the size of
    the bundle."""
    pytest.importorskip("peft", reason="Hugging Face PEFT is not installed")
    origin = EncoderOrigin(repository="timm/vit_tiny_patch16_224.augreg_in21k")
    monkeypatch.setattr(weights, "find_encoder_origin", lambda section: origin)
    network = timm.create_model("vit_tiny_patch16_224", num_classes=0)
    bundle = timm_bundle(
        tmp_path, network=network, backbone={"blocks": None, "pool": "avg"}
    )
    path, images, expected = saved(bundle, tmp_path)
    folder = export_bundle(path, "peft", output_dir=tmp_path / "out").folder
    assert (
        json.loads((folder / "adapter_config.json").read_text())[
            "base_model_name_or_path"
        ]
        == origin.repository
    )
    assert not (folder / "base").exists()
    create = timm.create_model
    file = str(tmp_path / "vit_tiny_patch16_224.safetensors")

    def create_offline(name, **options):
        return create(name, pretrained_cfg_overlay={"file": file}, **options)

    monkeypatch.setattr(timm, "create_model", create_offline)
    torch.testing.assert_close(
        run_blocks(folder, images)["logits"], expected, atol=1e-5, rtol=1e-5
    )
    network.blocks[0].norm1.weight.data[0] = 2
    weights.write_bytes(
        tmp_path / "vit_tiny_patch16_224.safetensors",
        weights.save(network.state_dict()),
    )
    with pytest.raises(AssertionError):
        run_blocks(folder, images)


def test_what_timm_cannot_express_is_refused(tmp_path, run):
    bundle = timm_bundle(tmp_path)
    standard = bundle.contract.model_copy(update={"chip_standard": True})
    refused = {
        "a cosine head": timm_bundle(tmp_path, head={"kind": "cosine"}),
        "heads on earlier blocks": copy_with_early_head(
            timm_bundle(tmp_path, head={"kind": "cosine"})
        ),
        "normalizes each chip by its own": replace(bundle, contract=standard),
        "averages 2 runs": combine_bundles(
            bundle.recipe, [bundle, perturbed_copy(bundle)]
        ),
        "modules of Adapter cannot be merged": timm_bundle(
            tmp_path, peft={"method": "adapter", "rank": None}
        ),
    }
    for words, other in refused.items():
        other.save(tmp_path / "bundle")
        with pytest.raises(RequestError, match=mentions(words, "export onnx")):
            export_bundle(tmp_path / "bundle", "timm", output_dir=tmp_path / "out")
    linear = Bundle.load(run).recipe.head.model_copy(update={"kind": "linear"})
    stem = Bundle.load(run)
    tensors = stem.tensors | {"head.bias": torch.zeros(3)}
    stem = replace(
        stem, recipe=stem.recipe.model_copy(update={"head": linear}), tensors=tensors
    )
    stem.save(tmp_path / "bundle")
    for name in ("timm", "peft"):
        with pytest.raises(
            RequestError,
            match=mentions(
                "timm cannot build vit_tiny_patch8_64.simship", "convolutions"
            ),
        ):
            export_bundle(tmp_path / "bundle", name, output_dir=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_readme_says_what_the_bytes_are(tmp_path):
    bundle = timm_bundle(tmp_path, evaluate={"tta": "mirror"})
    stretch = bundle.contract.units["uint8"][0].model_copy(
        update={"curve": "log", "low": 0.001, "high": 2.5}
    )
    contract = bundle.contract.model_copy(
        update={"units": {"sigma0": (stretch,) * 3}, "crop": 48}
    )
    replace(bundle, contract=contract, classes=("a|b", "<i>", "tug"), groups={}).save(
        tmp_path / "bundle"
    )
    text = (
        export_bundle(tmp_path / "bundle", "timm", output_dir=tmp_path / "out").folder
        / "README.md"
    ).read_text()
    for words in (
        "(bytes / 255 - mean) / std, with mean [0.5, 0.5, 0.5]",
        "0.001 is black, 2.5 is white, log between",
        "the central 48 x 48 pixels",
        "averages several views of a chip (mirror)",
        r"a\|b, &lt;i&gt;, tug",
        "are not calibrated",
    ):
        assert words in text, words
