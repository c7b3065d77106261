"""`rsft bundle import`: an adapter of Hugging Face PEFT gives the same logits as a
bundle, or is refused by name."""

import json

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from rsft.errors import RequestError, WeightsError
from rsft.inference.export.export import export_bundle
from rsft.models.bundle.bundle import Bundle
from rsft.models.loading import load_classifier
from rsft.plugins.adapters.adapter_import import ImportedInput, import_adapter
from tests.helpers.messages import mentions
from tests.helpers.plugins import needs_plugin
from tests.helpers.tiny_bundles import timm_bundle

peft = pytest.importorskip("peft", reason="Hugging Face PEFT is not installed")
pytestmark = pytest.mark.slow

NAME = "vit_tiny_patch16_224"
CLASSES = ("barge", "ferry", "tug")
OPTIONS = {
    "fused": {"r": 4, "lora_alpha": 8, "target_modules": ["qkv", "fc1"]},
    "all": {
        "r": 2,
        "target_modules": r"blocks\.\d+\.(attn\.(qkv|proj)|mlp\.fc.)",
        "use_rslora": True,
    },
    "patterns": {
        "r": 2,
        "target_modules": r"blocks\.[02]\..*fc.",
        "rank_pattern": {"fc2": 5},
        "alpha_pattern": {"fc2": 20},
    },
    "last layer": {
        "r": 2,
        "target_modules": ["fc2"],
        "layers_to_transform": [2],
        "layers_pattern": "blocks",
    },
}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """Weights file of a network at its native size."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("base") / "base.safetensors"
    save_file(timm.create_model(NAME, num_classes=0).state_dict(), path)
    return path


def trained(folder, base, pool="token", saved="head", wrap=None, **options):
    """Save an adapter with random weights as PEFT does; return its network."""
    options_of_timm = {
        "pretrained": True,
        "pretrained_cfg_overlay": {"file": str(base)},
        "fc_norm": False,
    }
    network = timm.create_model(
        NAME, num_classes=3, img_size=32, global_pool=pool, **options_of_timm
    )
    config = peft.LoraConfig(**options, modules_to_save=[saved] if saved else None)
    model = peft.get_peft_model(wrap(network) if wrap else network, config).eval()
    for name, parameter in model.named_parameters():
        if "lora_B" in name or "modules_to_save" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    model.save_pretrained(str(folder))
    return model


def imported(folder, base, tmp_path, **options):
    inputs = ImportedInput(32, **options)
    import_adapter(
        folder,
        tmp_path / "bundle",
        CLASSES,
        inputs,
        backbone=f"timm:{NAME}",
        weights=base,
    )
    return Bundle.load(tmp_path / "bundle")


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize("pool", ["token", "avg"])
@pytest.mark.parametrize("name", OPTIONS)
def test_a_bundle_gives_the_logits_of_peft(tmp_path, base, name, pool):
    model = trained(tmp_path / "adapter", base, pool, **OPTIONS[name])
    bundle = imported(tmp_path / "adapter", base, tmp_path, pool=pool)
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    logits = load_classifier(bundle, "cpu").predict(images).logits
    torch.testing.assert_close(logits, model(images), atol=1e-5, rtol=1e-5)
    assert bundle.classes == CLASSES and bundle.train_counts == (0, 0, 0)


class Wrapped(torch.nn.Module):
    """A network of timm as transformers holds it."""

    def __init__(self, network):
        super().__init__()
        self.timm_model = network

    def forward(self, images):
        """Return the logits of images."""
        return self.timm_model(images)


@torch.no_grad()
def test_a_network_of_timm_in_transformers(tmp_path, base):
    options = {"r": 2, "lora_alpha": 2, "target_modules": ["qkv", "fc2"]}
    options["alpha_pattern"] = {"timm_model.blocks.1.mlp.fc2": 9}
    model = trained(
        tmp_path / "adapter", base, saved="timm_model.head", wrap=Wrapped, **options
    )
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    bundle = imported(tmp_path / "adapter", base, tmp_path)
    torch.testing.assert_close(
        load_classifier(bundle, "cpu").predict(images).logits,
        model(images),
        atol=1e-5,
        rtol=1e-5,
    )


def test_the_command_and_the_prediction(rsft, tmp_path, base):
    from PIL import Image

    model = trained(tmp_path / "adapter", base, **OPTIONS["fused"])
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "chip.png")
    options = [
        "--backbone",
        f"timm:{NAME}",
        "--weights",
        base,
        "--size",
        32,
        "--bands",
        "HH",
        "--classes",
        "barge, ferry, tug",
    ]
    options += ["--mean", "0.2,0.2,0.2", "--std", "0.1,0.1,0.1"]
    code, printed = rsft(
        "bundle", "import", tmp_path / "adapter", "-o", tmp_path / "bundle", *options
    )
    assert (
        code == 0
        and "LoRA at q, k, v, mlp1 of 12 blocks" in printed
        and "(0.2, 0.2, 0.2)" in printed
    )
    images = ((torch.from_numpy(pixels) / 255 - 0.2) / 0.1).expand(1, 3, 32, 32)
    with torch.no_grad():
        expected = model(images).softmax(1)[0]
    code, printed = rsft(
        "predict",
        tmp_path / "bundle",
        tmp_path / "chip.png",
        "-o",
        tmp_path / "out.csv",
        "--bands",
        "HH",
    )
    assert code == 0, printed
    lines = (tmp_path / "out.csv").read_text().splitlines()
    row = dict(zip(lines[0].split(","), lines[1].split(","), strict=False))
    np.testing.assert_allclose(
        [float(row[f"p_{name}"]) for name in CLASSES], expected, atol=1e-5
    )
    code, printed = rsft(
        "bundle", "import", tmp_path / "adapter", "-o", tmp_path / "bundle", *options
    )
    assert code == 2 and "--overwrite" in printed
    code, printed = rsft(
        "bundle",
        "import",
        tmp_path / "adapter",
        "-o",
        tmp_path / "b",
        *options,
        "--mean",
        "a",
    )
    assert (
        code == 2
        and "'a' is not a list of numbers" in printed
        and not (tmp_path / "b").exists()
    )


REFUSED = {
    "no head": (
        {"saved": None, "target_modules": ["qkv"]},
        RequestError,
        "no classifier head",
        "modules_to_save",
    ),
    "patch embedding": (
        {"target_modules": ["proj"]},
        WeightsError,
        "has no site at patch_embed.proj",
        "",
    ),
    "DoRA": (
        {"target_modules": ["qkv"], "use_dora": True},
        WeightsError,
        "unsupported options: use_dora",
        "",
    ),
    "biases": (
        {"target_modules": ["qkv"], "bias": "lora_only"},
        WeightsError,
        "blocks.0.attn.qkv.base_layer.bias is neither",
        "",
    ),
    "bias of B": (
        {"target_modules": ["qkv"], "lora_bias": True},
        RequestError,
        "trains biases (lora_bias)",
        "",
    ),
    "norms": (
        {"target_modules": ["qkv"], "saved": "norm"},
        WeightsError,
        "weight (classes, 192)",
        "",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_a_bundle_cannot_hold_is_refused(tmp_path, base, case):
    options, error, *words = REFUSED[case]
    model = trained(tmp_path / "adapter", base, **options)
    if case == "bias of B":
        tensors = load_file(tmp_path / "adapter/adapter_model.safetensors")
        changed = {
            key: tensor + key.endswith("lora_B.bias") for key, tensor in tensors.items()
        }
        save_file(changed, tmp_path / "adapter/adapter_model.safetensors")
    with pytest.raises(error, match=mentions(*filter(None, words))):
        imported(tmp_path / "adapter", base, tmp_path)
    assert model is not None and not (tmp_path / "bundle").exists()


def test_damaged_foreign_and_wrong_files(tmp_path, base):
    trained(tmp_path / "adapter", base, **OPTIONS["fused"])
    file = tmp_path / "adapter" / "adapter_model.safetensors"
    config = tmp_path / "adapter" / "adapter_config.json"
    whole = file.read_bytes()
    text = config.read_text()
    with pytest.raises(RequestError, match="2 names for the 3 classes"):
        import_adapter(
            file.parent,
            tmp_path / "bundle",
            CLASSES[:2],
            ImportedInput(32),
            backbone=f"timm:{NAME}",
            weights=base,
        )
    with pytest.raises(RequestError, match="does not name a base of timm"):
        import_adapter(
            file.parent, tmp_path / "bundle", CLASSES, ImportedInput(32), weights=base
        )
    config.write_text(
        json.dumps(
            json.loads(text)
            | {"base_model_name_or_path": "timm/vit_small_patch16_224.dino"}
        )
    )
    with pytest.raises(
        RequestError,
        match=mentions("was trained on vit_small_patch16_224.dino", "--backbone"),
    ):
        imported(file.parent, base, tmp_path)
    config.write_text(text)
    with pytest.raises(RequestError, match="1 values for 3 inputs"):
        imported(file.parent, base, tmp_path, mean=(0.5,))
    with pytest.raises(RequestError, match=mentions("backbone.pool")):
        imported(file.parent, base, tmp_path, pool="max")
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WeightsError, match="not a complete safetensors file"):
        imported(file.parent, base, tmp_path)
    file.rename(file.with_name("adapter_model.bin"))
    with pytest.raises(RequestError, match="a pickle can run any code"):
        imported(file.parent, base, tmp_path)
    config.write_text("[1]")
    file.with_name("adapter_model.bin").rename(file)
    with pytest.raises(WeightsError, match=mentions("adapter_config.json is damaged")):
        imported(file.parent, base, tmp_path)
    config.unlink()
    with pytest.raises(
        RequestError,
        match=mentions("no adapter of Hugging Face PEFT", "save_pretrained"),
    ):
        imported(file.parent, base, tmp_path)
    assert not (tmp_path / "bundle").exists()


HOSTILE = {
    "alpha": ({"lora_alpha": "2"}, {}),
    "infinite alpha": ({"lora_alpha": float("inf")}, {}),
    "pattern": ({"alpha_pattern": {"(": 2}}, {}),
    "saved": ({"modules_to_save": [3]}, {}),
    "no rank": ({}, {"lora_A.weight": (0, 192), "lora_B.weight": (576, 0)}),
    "ranks that differ": ({}, {"lora_A.weight": (3, 192)}),
    "one dimension": ({}, {"lora_A.weight": (192,)}),
    "no dimension": ({}, {"lora_B.weight": ()}),
    "five dimensions": ({}, {"lora_A.weight": (4, 192, 1, 1, 1)}),
    "another width": ({}, {"lora_A.weight": (4, 100)}),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_values_are_errors_of_rsft(tmp_path, base, case):
    changes, shapes = HOSTILE[case]
    trained(
        tmp_path / "adapter",
        base,
        r=4,
        target_modules=["qkv"],
        layers_to_transform=[0],
        layers_pattern="blocks",
    )
    config = tmp_path / "adapter" / "adapter_config.json"
    file = tmp_path / "adapter" / "adapter_model.safetensors"
    config.write_text(json.dumps(json.loads(config.read_text()) | changes))
    tensors = load_file(file)
    for name, shape in shapes.items():
        tensors[f"base_model.model.blocks.0.attn.qkv.{name}"] = torch.ones(shape)
    save_file(tensors, file)
    with pytest.raises(WeightsError):
        imported(tmp_path / "adapter", base, tmp_path)
    assert not (tmp_path / "bundle").exists()


def test_a_head_that_is_not_finite_is_refused(tmp_path, base):
    trained(tmp_path / "adapter", base, saved=None, **OPTIONS["fused"])
    head = {"weight": torch.full((3, 192), torch.nan), "bias": torch.zeros(3)}
    save_file(head, tmp_path / "adapter/head.safetensors")
    with pytest.raises(
        WeightsError, match=mentions("head.weight holds NaN or infinity")
    ):
        imported(tmp_path / "adapter", base, tmp_path)


def test_attention_that_may_have_ignored_the_adapter_is_refused(tmp_path):
    """timm passes by PEFT's layer at qkv, unless qkv_bias_separate is set."""
    name = "eva02_tiny_patch14_224"
    network = timm.create_model(name, num_classes=3, img_size=28)
    encoder = timm.create_model(name, num_classes=0, img_size=28, global_pool="token")
    save_file(encoder.state_dict(), tmp_path / "base.safetensors")
    config = peft.LoraConfig(r=2, target_modules=["qkv"], modules_to_save=["head"])
    peft.get_peft_model(network, config).save_pretrained(str(tmp_path / "adapter"))
    options = {"backbone": f"timm:{name}", "weights": tmp_path / "base.safetensors"}
    with pytest.raises(RequestError, match="only with qkv_bias_separate"):
        import_adapter(
            tmp_path / "adapter",
            tmp_path / "bundle",
            CLASSES,
            ImportedInput(28),
            **options,
        )


@needs_plugin("exports")
@torch.no_grad()
def test_an_export_of_rsft_is_read_back(tmp_path):
    bundle = timm_bundle(
        tmp_path,
        network=timm.create_model(NAME, num_classes=0),
        backbone={"blocks": None},
    )
    bundle.save(tmp_path / "first")
    folder = export_bundle(
        tmp_path / "first", "peft", output_dir=tmp_path / "adapter"
    ).folder
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    again = imported(folder, tmp_path / f"{NAME}.safetensors", tmp_path)
    logits = load_classifier(again, "cpu").predict(images).logits
    expected = load_classifier(bundle, "cpu").predict(images).logits
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)
