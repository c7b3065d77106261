"""The example of MetaPEFT runs, needs PyTorch and rsft.peft alone, and trains the scales."""

from __future__ import annotations

import ast
import importlib.util
import sys
from types import ModuleType

import pytest
import torch

from rsft.peft import LoRA, attach
from tests.helpers.style import ROOT

EXAMPLE = ROOT / "examples/metapeft_minimal.py"


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("metapeft_minimal", EXAMPLE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_imports_torch_and_rsft_peft_alone() -> None:
    nodes = list(ast.walk(ast.parse(EXAMPLE.read_text("utf-8"))))
    modules = {name.name for node in nodes if isinstance(node, ast.Import) for name in node.names}
    modules |= {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}
    foreign = {name for name in modules if name.split(".")[0] not in sys.stdlib_module_names}
    assert {name for name in foreign if name.split(".")[0] != "torch"} == {"rsft.peft"}


@pytest.mark.slow
def test_it_prints_the_accuracy_of_three_methods(example: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    results = example.main(["--pretraining-steps", "3", "--steps", "2"])
    assert [line[:22].strip() for line in capsys.readouterr().out.splitlines()] == ["accuracy in %", *results]
    assert list(results) == ["frozen network", "LoRA", "LoRA, learned scales"]
    assert all(0 <= value <= 100 for groups in results.values() for value in groups.values())


@pytest.mark.slow
def test_the_outer_loop_trains_every_scale_and_the_classifier_contains_them(example: ModuleType) -> None:
    torch.manual_seed(0)
    adapted = attach(example.ViT(), LoRA(rank=2, positions="qkvo12", blocks="all"), learn_scales=True)
    labels = torch.arange(len(example.TRAIN_COUNTS))
    images = example.make_images(labels, len(labels), True, torch.Generator().manual_seed(0))
    before = adapted.forward_features(images)[:, 0]
    classifier = example.finetune(adapted, images, labels, steps=4, seed=0)
    scales = adapted.modulator.scales()
    assert len(scales) == 6 * example.DEPTH and all(abs(scale - 1) > 1e-3 for scale in scales.values())
    assert not torch.allclose(classifier[0](images), before, atol=1e-3)
