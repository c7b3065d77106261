"""The benchmark of rsft.peft: rows, references and table."""

from __future__ import annotations

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer

from tools.benchmarks.peft_row import MODELS, ROWS, Batch


@pytest.mark.parametrize("row", sorted(set(ROWS) - {"peft", "peft-bf16"}))
def test_every_row_runs_and_only_training_changes_weights(row) -> None:
    vit = VisionTransformer(img_size=32, patch_size=16, embed_dim=24, depth=3, num_heads=2, num_classes=15)
    before = vit.head.weight.clone()
    step = ROWS[row](vit, Batch(torch.randn(2, 3, 32, 32), torch.tensor([3, 5])))
    step()
    trains = row not in ("products", "products-bf16", "bare", "merged")
    assert torch.equal(vit.head.weight, before) != trains


@pytest.mark.exhaustive
@pytest.mark.slow
def test_the_networks_are_those_of_their_names() -> None:
    millions = {name: sum(p.numel() for p in VisionTransformer(**MODELS[name]).parameters()) / 1e6 for name in MODELS}
    assert millions == pytest.approx({"b": 86.6, "l": 304.3, "tiny": 2.0, "small": 15.0}, rel=0.02)
