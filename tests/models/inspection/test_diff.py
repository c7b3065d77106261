"""Compare two bundles."""

import json
from dataclasses import replace

import pytest
import torch

from rsft.models.bundle.bundle import Bundle
from rsft.models.bundle.manifest import source_license
from rsft.models.inspection.describe import diff_bundles, tensor_kind


def test_equal_bundles_have_no_differences(run):
    diff = diff_bundles(run, run)
    same = {"max": 0.0, "relative": 0.0, "first": 0, "second": 0}
    counts = {"adapter": 72, "gamma": 1, "head": 1}
    assert diff.pop("tensors") == {kind: {"both": count, **same} for kind, count in counts.items()}
    assert diff.pop("sha256") == [Bundle.load(run).sha256] * 2
    assert not any(diff.values()) and {"recipe", "classes", "order", "chip", "backbone", "metrics"} <= set(diff)


def test_all_differences(run, tmp_path):
    bundle = Bundle.load(run)
    tensors = {key: tensor.clone() for key, tensor in bundle.tensors.items()}
    adapters = [tensor.double() for key, tensor in tensors.items() if tensor_kind(key) == "adapter"]
    norm = sum(float(tensor.square().sum()) for tensor in adapters) ** 0.5
    tensors["blocks.0.q.a"][0, 0] += 3
    del tensors["gamma"]
    tensors["head.bias"] = torch.zeros(3)
    replace(
        bundle,
        recipe=bundle.recipe.model_copy(update={"meta": None, "seed": 7}),
        classes=("steep", "flat", "ferry"),
        groups={},
        train_counts=(12, 25, 4),
        contract=bundle.contract.model_copy(update={"crop": 20}),
        backbone_sha256="0" * 64,
        licenses=(bundle.licenses[0], source_license("data", "ships", "CC-BY-NC-4.0")),
        tensors=tensors,
        metrics=bundle.metrics | {"macro": {"value": 0.25, "low": 0.0, "high": 0.5}},
    ).save(tmp_path / "other")
    diff = diff_bundles(run, tmp_path / "other")
    assert json.loads(json.dumps(diff)) == diff
    assert diff["recipe"]["seed"] == [0, 7] and diff["recipe"]["meta.outer_every"] == [2, None]
    assert diff["classes"] == {"flat": [24, 25], "slanted": [4, None], "ferry": [None, 4]}
    assert diff["order"] == [["flat", "slanted", "steep"], ["steep", "flat", "ferry"]]
    assert list(diff["chip"]) == ["size"] and diff["chip"]["size"][1].startswith("the central 20 x 20 pixels")
    assert diff["backbone"] == {"vit_tiny_patch8_64.simship": [bundle.backbone_sha256, "0" * 64]}
    assert diff["licenses"] == {"data": ["bars: unknown", "ships: CC-BY-NC-4.0 (non-commercial)"]}
    assert diff["metrics"] == {"macro": [bundle.metrics["macro"]["value"], 0.25]}
    assert diff["tensors"]["adapter"] == {
        **{"both": 72, "first": 0, "second": 0},
        **{"max": pytest.approx(3, abs=1e-5), "relative": pytest.approx(3 / norm, rel=1e-5)},
    }
    assert diff["tensors"]["gamma"] == {"both": 0, "first": 1, "second": 0, "max": None, "relative": None}
    assert diff["tensors"]["head"]["second"] == 1


def test_site_pruned_in_both_is_no_difference(run, tmp_path):
    bundle = Bundle.load(run)
    gamma = bundle.tensors["gamma"].clone()
    gamma[0] = float("-inf")
    for name, shift in (("a", 0.0), ("b", 0.5)):
        replace(bundle, tensors=bundle.tensors | {"gamma": gamma + shift}).save(tmp_path / name)
    assert diff_bundles(tmp_path / "a", tmp_path / "b")["tensors"]["gamma"]["max"] == pytest.approx(0.5)


def test_tensor_kinds_of_an_ensemble():
    names = ("runs.0.blocks.0.q.a", "runs.1.gamma", "runs.1.head.weight", "head.bias", "shared.q.a")
    assert [tensor_kind(name) for name in names] == ["adapter", "gamma", "head", "head", "adapter"]
