"""`rsft export` with a trained bundle and the chips of its training."""

import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from rsft.backbones.timm_vits import timm_card
from rsft.errors import RequestError, WeightsError
from rsft.inference.engines.base import ENGINES, FORMATS
from rsft.inference.export import traceable
from rsft.inference.export.export import export_bundle, find_training_store
from rsft.inference.export.metadata import read_export_metadata
from rsft.models.bundle.bundle import Bundle, combine_bundles
from rsft.models.classifier import extract_features
from rsft.recipe.schema import HeadSection, PeftSection
from tests.helpers.messages import mentions
from tests.helpers.tiny_backbones import SMALL
from tests.helpers.tiny_bundles import copy_with_early_head, perturbed_copy

DOC = (Path(__file__).parents[3] / "docs/engines.md").read_text("utf-8")
WRONG = [
    (("--format", "onnx", "--precision", "bf16"), "ONNX Runtime has no bfloat16"),
    (("--format", "timm", "--precision", "int8"), "timm supports fp32"),
    (("--format", "tflite"), f"choose from {', '.join(FORMATS)}"),
    (("--format", "onnx", "--data", "absent"), "is not a chip store"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("options", "message"), WRONG)
def test_wrong_requests_are_refused(rsft, run, tmp_path, options, message):
    code, printed = rsft("export", run, "-o", tmp_path / "out", *options)
    assert code == 2 and message in printed and "Traceback" not in printed and not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_command_writes_an_onnx_file(rsft, run, root, tmp_path):
    code, printed = rsft("export", run, "--format", "onnx", "-o", tmp_path / "out")
    assert code == 0 and f"18 chips of {root}" in printed and "logits differ from PyTorch's by" in printed
    metadata = read_export_metadata(tmp_path / "out")
    assert metadata["classes"] == ["flat", "slanted", "steep"] and metadata["bundle_sha256"] == Bundle.load(run).sha256
    assert metadata["contract"]["size"] == 32 and metadata["checked"]["largest"] < 1e-3
    code, printed = rsft("export", run, "--format", "onnx", "-o", tmp_path / "out")
    assert code == 2 and "--overwrite" in printed
    (tmp_path / "out/model.onnx").write_bytes(b"altered")
    with pytest.raises(WeightsError, match=mentions("model.onnx", "altered")):
        read_export_metadata(tmp_path / "out")


def test_the_chips_of_the_training_are_found_or_not(run, root):
    bundle = Bundle.load(run)
    assert find_training_store(bundle, None).root == root
    other = replace(bundle, classes=("barge", "tug"))
    assert find_training_store(other, None) is None
    with pytest.raises(RequestError, match="other classes than the bundle"):
        find_training_store(other, root)
    data = bundle.recipe.data.model_copy(update={"root": "absent"})
    assert find_training_store(replace(bundle, recipe=bundle.recipe.model_copy(update={"data": data})), None) is None


@pytest.mark.slow
def test_an_export_that_differs_is_not_written(run, tmp_path, monkeypatch):
    trace_float32 = traceable.trace_network

    def trace_bfloat16(network, contract):
        return trace_float32(traceable.BFloat16Network(network), contract)

    monkeypatch.setattr(traceable, "trace_network", trace_bfloat16)
    with pytest.raises(WeightsError, match=mentions("differs from PyTorch", "0.001 is allowed")):
        export_bundle(run, "torch-export", "fp32", tmp_path / "out")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_peft_holds_only_adapter_and_head(run, tmp_path):
    result = export_bundle(run, "peft", "fp32", tmp_path / "out")
    names = {path.name for path in result.folder.iterdir()}
    assert names == {"adapter_config.json", "adapter_model.safetensors", "head.safetensors", "export.json"}
    assert load_file(result.folder / "head.safetensors")["weight"].shape == (3, 192)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["peft", "timm"])
def test_a_sequential_module_at_out_is_exported(run, tmp_path, name):
    bundle = Bundle.load(run)
    settings = bundle.recipe.peft.settings | {"out_insertion": "sequential"}
    peft = PeftSection.model_validate({"method": bundle.recipe.peft.method} | settings)
    recipe = bundle.recipe.model_copy(update={"peft": peft})
    generator = torch.Generator().manual_seed(0)
    tensors = {
        key: tensor + 0.1 * torch.randn(tensor.shape, generator=generator) if ".out." in key else tensor
        for key, tensor in bundle.tensors.items()
    }
    replace(bundle, recipe=recipe, tensors=tensors).save(tmp_path / "bundle")
    result = export_bundle(tmp_path / "bundle", name, "fp32", tmp_path / "out")
    assert result.metadata["checked"]["largest"] < 1e-4
    if name == "peft":
        assert load_file(result.folder / "adapter_model.safetensors")[
            "base_model.model.blocks.0.attn.proj.lora_B.bias"
        ].any()


@pytest.mark.slow
def test_timm_gives_the_reason_why_it_cannot_make_a_network(run, tmp_path):
    bundle = Bundle.load(run)
    cosine = export_bundle(run, "timm", "fp32", tmp_path / "cosine")
    assert "cosine" in cosine.metadata["timm"]["reason"] and any("cosine" in note for note in cosine.notes)
    tensors = bundle.tensors | {"head.bias": torch.zeros(3)}
    recipe = bundle.recipe.model_copy(update={"head": HeadSection(kind="linear")})
    replace(bundle, recipe=recipe, tensors=tensors).save(tmp_path / "linear")
    linear = export_bundle(tmp_path / "linear", "timm", "fp32", tmp_path / "out")
    assert "not a plain vision transformer" in linear.metadata["timm"]["reason"]  # its stem is made of convolutions
    assert "head.bias" in load_file(linear.folder / "model.safetensors")


@pytest.mark.first_case
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "precision"), [*((name, "fp32") for name in FORMATS), ("openvino", "bf16"), ("torch-export", "bf16")]
)
def test_a_head_on_an_earlier_block_is_exported(run, tmp_path, name, precision):
    copy_with_early_head(Bundle.load(run), block=0).save(tmp_path / "bundle")
    result = export_bundle(tmp_path / "bundle", name, precision, tmp_path / "out")
    assert result.metadata["head"]["earlier_blocks"] == [0] and result.metadata["checked"]["largest"] < 0.2
    if name == "timm":
        assert "heads on earlier blocks" in result.metadata["timm"]["reason"]
        assert "head.blocks.0.weight" in load_file(result.folder / "model.safetensors")
    if name == "peft":
        assert set(load_file(result.folder / "head.safetensors")) == {"final.weight", "blocks.0.weight"}


@pytest.mark.slow
def test_several_runs_have_no_state_dict(run, tmp_path):
    bundle = Bundle.load(run)
    combine_bundles(bundle.recipe, [bundle, perturbed_copy(bundle)]).save(tmp_path / "two")
    for name in ("timm", "peft"):
        with pytest.raises(RequestError, match="averages 2 runs"):
            export_bundle(tmp_path / "two", name, "fp32", tmp_path / name)


@pytest.mark.parametrize(("registry", "column"), [(ENGINES, "--engine"), (FORMATS, "--format")])
def test_the_documentation_lists_every_component(registry, column):
    table = DOC.partition(f"| `{column}` |")[2].partition("\n\n")[0]
    rows = dict(re.findall(r"^\| `([\w-]+)` \| (fp32[^|]*?) *\|", table, re.MULTILINE))
    documented = {name: tuple(precisions.split(", ")) for name, precisions in rows.items() if name != "auto"}
    assert documented == {name: tuple(registry[name].precisions) for name in registry}


def check_timm_network(folder, vit, name, pool, size, expected):
    """Check the network that timm makes of a written state dict; return the name of its architecture."""
    head = torch.nn.Linear(vit.embed_dim, 4)
    state = {**vit.eval().state_dict(), **{f"head.{key}": value for key, value in head.state_dict().items()}}
    save_file(state, folder / "model.safetensors")
    contract = SimpleNamespace(size=size, planes=("R", "G", "B"))
    bundle = SimpleNamespace(contract=contract, recipe=SimpleNamespace(backbone=SimpleNamespace(name=name)))
    options = json.loads(json.dumps(traceable._timm_options(vit, 4, pool, bundle)))
    model, reason = traceable._load_in_timm(dict(options), folder / "model.safetensors", head)
    images = torch.randn(2, 3, size, size)
    with torch.no_grad():
        torch.testing.assert_close(model(images), head(expected(images)), atol=1e-5, rtol=0)
    assert reason == ""
    return options["model_name"]


def test_timm_makes_a_plain_network(tmp_path):
    options = {"img_size": 32, "num_classes": 0, "global_pool": "avg", "fc_norm": False, **SMALL}
    vit = timm.create_model("vit_small_patch16_224", **options)
    check_timm_network(tmp_path, vit, "", "avg", 32, vit)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vit_tiny_patch16_dinov3_qkvb.eupe_lvd1689m", "timm:eva02_tiny_patch14_224"])
@pytest.mark.parametrize("pool", ["token", "avg"])
def test_timm_makes_a_network_with_rotary_embeddings(tmp_path, name, pool):
    size = 4 * timm_card(name).patch
    vit = timm_card(name).build(size)
    made = check_timm_network(tmp_path, vit, name, pool, size, lambda images: extract_features(vit, images, pool))
    assert made == name.removeprefix("timm:").partition(".")[0]
