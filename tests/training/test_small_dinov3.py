"""A small DINOv3 with random weights through the whole tool: train, merge, bundle, predict, export."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from rsft.backbones import loading
from rsft.backbones.card import Remote
from rsft.backbones.timm_vits import build_timm_vit, timm_card
from rsft.inference.export.metadata import read_export_metadata
from rsft.models.bundle.bundle import Bundle
from rsft.models.factory import load_merged_classifier, load_unmerged_classifier
from tests.conftest import Command

pytestmark = pytest.mark.slow

NAME = "vit_large_patch16_dinov3.sat493m"
RECIPE = f"""\
# Bars
# rsft finetune bars.yaml
data: {{root: ROOT, size: 48}}
backbone: {{name: {NAME}}}
peft: {{method: lora, rank: 2, positions: qkvo12, blocks: "last:2"}}
meta: {{outer_every: 2, lr: 0.05, warmup: 1}}
train: {{epochs: 3, batch_size: 8, lr: 0.5}}
head: {{kind: linear}}
evaluate: {{batch_size: 32}}
"""


@pytest.fixture
def small_dinov3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a network of three blocks under the name of the large one, with a weights file as on timm's hub."""
    card = timm_card(NAME)
    assert card is not None and isinstance(card.weights, Remote)
    small = replace(card, build=partial(build_timm_vit, NAME, 16, embed_dim=32, depth=3, num_heads=2))
    torch.manual_seed(0)
    network = small.build(48)
    for parameter in network.parameters():
        nn.init.normal_(parameter, 0.0, 0.2)
    save_file(network.state_dict(), tmp_path / card.weights.file)
    monkeypatch.setenv("RSFT_WEIGHTS", str(tmp_path))
    monkeypatch.setitem(loading._RSFT_CARDS, NAME, small)


@pytest.mark.usefixtures("small_dinov3")
def test_train_merge_predict_and_export(rsft: Command, root: Path, class_folders: Path, tmp_path: Path) -> None:
    (tmp_path / "bars.yaml").write_text(RECIPE.replace("ROOT", str(root)))
    code, printed = rsft("finetune", "bars.yaml", "--runs", "runs", "--no-report", "--quiet")
    assert code == 0, printed
    run = tmp_path / "runs/bars/001"
    metrics = pd.read_csv(run / "metrics.csv")
    assert metrics["train_loss"].iloc[-1] < metrics["train_loss"].iloc[0] and metrics["meta_loss"].notna().any()

    bundle = Bundle.load(run)
    unmerged, merged = load_unmerged_classifier(bundle, "cpu"), load_merged_classifier(bundle).eval()
    assert unmerged.adapted.first_adapted_stage == 1 and merged.adapted.unmerged == ()
    assert all(parameter.abs().max() > 0 for parameter in unmerged.adapted.theta)
    images = torch.randn(4, len(bundle.contract.planes), 48, 48)
    with torch.no_grad():
        torch.testing.assert_close(merged(images), unmerged(images), atol=1e-4, rtol=1e-4)

    code, printed = rsft("predict", run, class_folders / "val", "-o", "out.csv")
    assert code == 0, printed
    assert len(pd.read_csv(tmp_path / "out.csv")) == 18

    for name, file in (("onnx", "model.onnx"), ("timm", "model.safetensors")):
        code, printed = rsft("export", run, "--format", name, "-o", name)
        assert code == 0 and (tmp_path / name / file).is_file(), printed
        assert read_export_metadata(tmp_path / name)["checked"]["largest"] < 1e-3
    assert (
        read_export_metadata(tmp_path / "timm")["timm"]["create_model"] is None
    )  # timm's network of the name is large
