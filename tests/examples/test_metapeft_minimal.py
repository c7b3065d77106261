"""The example of MetaPEFT runs, needs PyTorch and rsft.peft alone, and trains the
scales."""

import importlib.util
import re
import sys

import pytest
import torch

from rsft.peft import LoRA, attach
from tests.helpers.style import ROOT

EXAMPLE = ROOT / "examples/metapeft_minimal.py"


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("metapeft_minimal", EXAMPLE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_imports_torch_and_rsft_peft_alone():
    modules = set(
        re.findall(
            r"^(?:from|import) ([\w.]+)", EXAMPLE.read_text("utf-8"), re.MULTILINE
        )
    )
    assert {
        x for x in modules if x.split(".")[0] not in {"torch", *sys.stdlib_module_names}
    } == {"rsft.peft"}


@pytest.mark.exhaustive
def test_it_prints_the_accuracy_of_three_methods(example, capsys):
    results = example.main(["--pretraining-steps", "3", "--steps", "2"])
    assert [line[:22].strip() for line in capsys.readouterr().out.splitlines()] == [
        "accuracy in %",
        *results,
    ]
    assert list(results) == ["frozen network", "LoRA", "LoRA, learned scales"]
    assert all(
        0 <= value <= 100 for groups in results.values() for value in groups.values()
    )


@pytest.mark.slow
def test_the_outer_loop_trains_every_scale_and_the_classifier_contains_them(example):
    torch.manual_seed(0)
    adapted = attach(
        example.ViT(), LoRA(rank=2, positions="qkvo12", blocks="all"), learn_scales=True
    )
    labels = torch.arange(len(example.TRAIN_COUNTS))
    images = example.make_images(
        labels, len(labels), True, torch.Generator().manual_seed(0)
    )
    before = adapted.forward_features(images)[:, 0]
    classifier = example.finetune(adapted, images, labels, steps=4, seed=0)
    scales = adapted.modulator.scales()
    assert len(scales) == 6 * example.DEPTH and all(
        abs(scale - 1) > 1e-3 for scale in scales.values()
    )
    assert not torch.allclose(classifier[0](images), before, atol=1e-3)
