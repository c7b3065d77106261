"""The network without weights has as many parameters as the one with weights."""

from __future__ import annotations

from pathlib import Path

from rsft.models.bundle.bundle import Bundle
from rsft.models.factory import load_unmerged_classifier
from rsft.models.inspection.verify import build_meta_model


def test_frozen_parameters(run: Path) -> None:
    bundle = Bundle.load(run)
    learned = sum(tensor.numel() for tensor in bundle.tensors.values())
    total = sum(parameter.numel() for parameter in load_unmerged_classifier(bundle, "cpu").parameters())
    assert build_meta_model(bundle).frozen_parameters + learned == total
