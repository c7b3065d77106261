"""Adapters in Hugging Face PEFT's layout, written, read, and understood by PEFT
itself."""

import json
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from rsft.peft import (
    Adapter,
    CompositeMethod,
    LoRA,
    LoTR,
    Site,
    attach,
    export_peft,
    import_peft,
)
from tests.helpers.messages import mentions
from tests.helpers.peft_models import NETWORKS, method_id, tiny_vit, with_random_adapter

METHODS = [
    (LoRA(rank=2), True),
    (
        LoRA(
            rank={"*.q": 3, "blocks.1.mlp?": 5, "*": 2},
            positions="qv12",
            blocks=[0, 1],
            dropout=0.1,
        ),
        False,
    ),
    (LoRA(rank=2, positions="ko", scale="1/r"), False),
    (LoTR(rank=2), True),
]
EACH = pytest.mark.parametrize(("method", "learn_scales"), METHODS, ids=method_id)


def exported(folder, method, learn_scales=False, network=tiny_vit):
    adapted = with_random_adapter(
        attach(network(), method, learn_scales=learn_scales)
    ).eval()
    export_peft(adapted, folder)
    return adapted


def edit(folder, **changes):
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | changes))


@EACH
def test_exported_adapter_is_read_back(tmp_path, images, method, learn_scales):
    adapted = exported(tmp_path, method, learn_scales)
    again = import_peft(tiny_vit(), tmp_path).eval()
    assert torch.allclose(again(images), adapted(images), atol=1e-5)
    assert again.sites == adapted.sites


def test_fused_layers_are_one_pair_of_blocks(tmp_path):
    exported(tmp_path, LoRA(rank={"*.q": 3, "*": 2}, positions="qv"))
    b = load_file(tmp_path / "adapter_model.safetensors")[
        "base_model.model.blocks.0.attn.qkv.lora_B.weight"
    ]
    nonzero = b.unflatten(0, (3, 24)).abs().sum(1) > 0
    assert nonzero.tolist() == [
        [True] * 3 + [False] * 2,
        [False] * 5,
        [False] * 3 + [True] * 2,
    ]


@EACH
def test_peft_loads_our_files(tmp_path, images, method, learn_scales):
    peft = pytest.importorskip("peft", reason="Hugging Face PEFT is not installed")
    adapted = exported(tmp_path, method, learn_scales)
    reference = peft.PeftModel.from_pretrained(tiny_vit(), str(tmp_path)).eval()
    assert torch.allclose(reference(images), adapted(images), atol=1e-5)


@pytest.mark.parametrize("name", ["no fused qkv, rotary", "packed SwiGLU"])
def test_peft_loads_our_files_of_other_networks(tmp_path, images, name):
    peft = pytest.importorskip("peft", reason="Hugging Face PEFT is not installed")
    adapted = exported(tmp_path, LoRA(rank=2), True, NETWORKS[name])
    reference = peft.PeftModel.from_pretrained(NETWORKS[name](), str(tmp_path)).eval()
    assert torch.allclose(reference(images), adapted(images), atol=1e-5)
    assert torch.allclose(
        import_peft(NETWORKS[name](), tmp_path).eval()(images),
        adapted(images),
        atol=1e-5,
    )


@pytest.mark.parametrize(
    "options",
    [
        {"r": 4, "lora_alpha": 8, "target_modules": ["qkv", "fc1"]},
        {
            "r": 4,
            "lora_alpha": 3,
            "target_modules": ["proj"],
            "use_rslora": True,
            "exclude_modules": ["patch_embed.proj"],
        },
        {
            "r": 2,
            "target_modules": r"blocks\.[02]\.mlp\.fc.",
            "rank_pattern": {"fc2": 5},
            "alpha_pattern": {"fc2": 20},
        },
    ],
    ids=["fused", "rank-stabilized", "patterns"],
)
def test_we_load_files_of_peft(tmp_path, images, options):
    peft = pytest.importorskip("peft", reason="Hugging Face PEFT is not installed")
    reference = peft.get_peft_model(
        tiny_vit(), peft.LoraConfig(**options, lora_dropout=0.1)
    ).eval()
    for name, parameter in reference.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    reference.save_pretrained(str(tmp_path))
    ours = import_peft(tiny_vit(), tmp_path).eval()
    assert torch.allclose(ours(images), reference(images), atol=1e-5)
    if "qkv" in options["target_modules"]:
        assert {site.position for site in ours.sites} == {"q", "k", "v", "mlp1"}


def test_package_peft_is_not_required(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    exported(tmp_path, LoRA(rank=2))
    assert import_peft(tiny_vit(), tmp_path).sites[0] == Site(0, "q")


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (Adapter(), "not BottleneckModule"),
        (CompositeMethod((LoRA(), Adapter())), "only low-rank additions"),
        (LoRA(out_insertion="sequential"), "sequential"),
    ],
    ids=method_id,
)
def test_unsupported_methods_are_refused(vit, tmp_path, method, message):
    with pytest.raises(ValueError, match=message):
        export_peft(attach(vit, method), tmp_path)
    assert not list(tmp_path.iterdir())


def test_merged_adapters_are_not_exported(vit, tmp_path):
    adapted = attach(vit, LoRA())
    adapted.merge()
    with pytest.raises(ValueError, match="before detach and merge"):
        export_peft(adapted, tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"peft_type": "IA3"}, "a IA3 adapter"),
        ({"use_dora": True}, "use_dora"),
        ({"modules_to_save": ["head"]}, "modules_to_save"),
        ({"lora_bias": True}, "lora_bias"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights"),
    ],
)
def test_adapters_of_another_kind(tmp_path, changes, message):
    exported(tmp_path, LoRA(rank=2))
    edit(tmp_path, **changes)
    with pytest.raises(ValueError, match=message):
        import_peft(tiny_vit(), tmp_path)


def rename_keys(state, old, new):
    return {key.replace(old, new): value for key, value in state.items()}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda state: rename_keys(state, "blocks.0.mlp.fc1", "patch_embed.proj"),
            "no site at patch_embed",
        ),
        (
            lambda state: rename_keys(state, "blocks.2.", "blocks.7."),
            r"no site at blocks\.7",
        ),
        (
            lambda state: rename_keys(state, "lora_A", "lora_magnitude_vector"),
            "neither lora_A nor lora_B",
        ),
        (lambda state: dict(list(state.items())[1:]), "is missing"),
        (lambda state: {}, "is missing"),
        (
            lambda state: {
                key: value[:, :-1].contiguous() for key, value in state.items()
            },
            "keys do not fit",
        ),
    ],
    ids=["layer", "block", "tensor", "half", "empty", "width"],
)
def test_adapters_that_do_not_fit(tmp_path, change, message):
    exported(tmp_path, LoRA(rank=2, positions="o12"))
    file = tmp_path / "adapter_model.safetensors"
    save_file(change(load_file(file)), file)
    vit = tiny_vit()
    with pytest.raises(ValueError, match=message):
        import_peft(vit, tmp_path)
    attach(vit, LoRA())


def test_folder_without_adapter(tmp_path):
    with pytest.raises(FileNotFoundError):
        import_peft(tiny_vit(), tmp_path)
    (tmp_path / "adapter_config.json").write_text("{")
    with pytest.raises(ValueError, match=mentions("adapter_config.json", "JSON")):
        import_peft(tiny_vit(), tmp_path)
