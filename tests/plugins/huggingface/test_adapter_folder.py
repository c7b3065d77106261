"""The folder of an adapter; `test_module` loads that of every tuner by peft."""

import json

import pytest
import torch

from rsft.peft import attach
from rsft.plugins.huggingface.method import HuggingFaceMethod
from tests.helpers.peft_models import tiny_vit, with_random_adapter
from tests.helpers.plugins import needs_plugin

pytestmark = [needs_plugin("huggingface"), pytest.mark.slow]
pytest.importorskip("peft", reason="Hugging Face PEFT is not installed")


def test_files_are_the_same_each_time_and_load(tmp_path):
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    method = HuggingFaceMethod({"peft_type": "LORA", "r": 2}, "o12", "last:1")
    adapted = with_random_adapter(attach(tiny_vit(), method))
    contents = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        method.export_peft(adapted, tmp_path / name, "base")
        contents.append(
            [file.read_bytes() for file in sorted((tmp_path / name).iterdir())]
        )
    assert contents[0] == contents[1] and len(contents[0]) == 2
    config = json.loads((tmp_path / "a/adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "base" and config["inference_mode"]
    assert "blocks" in config["target_modules"]
    loaded = method.import_peft(tiny_vit(), tmp_path / "a")
    torch.testing.assert_close(loaded(images), adapted(images))


def test_learned_scales_are_refused(tmp_path):
    adapted = attach(tiny_vit(), HuggingFaceMethod(), learn_scales=True)
    with pytest.raises(ValueError, match="scale"):
        adapted.method.export_peft(adapted, tmp_path)
    assert not list(tmp_path.iterdir())
