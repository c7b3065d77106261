"""A factor for every output feature, from training to the bundle, in each schedule."""

import os
import signal

import pandas as pd
import pytest
import torch

from rsft.errors import Interrupted
from rsft.inference.export.export import export_bundle
from rsft.models.bundle.bundle import Bundle
from rsft.models.inspection.verify import verify_bundle
from rsft.models.loading import load_classifier, load_unmerged_classifier
from rsft.recipe.load import load_recipe
from rsft.training.finetune import finetune
from rsft.training.listeners import RunListener
from tests.helpers.plugins import needs_plugin

METHODS = {
    "joint": (
        "peft={method: lora+adaptformer, rank: 2, dim: 2, positions: v2, modulator:"
        " feature}"
    ),
    "alternating": "peft={method: lora, rank: 2, modulator: feature}",
    "metalora": (
        "peft={method: adaptformer, dim: 2, scale: learnable, modulator: feature}"
    ),
}


class SignalAtStep(RunListener):
    def on_step(self, step):
        if step.done == 3:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.slow
@needs_plugin("authors_schedule", "exports")
@pytest.mark.parametrize("schedule", [*METHODS])
def test_a_run_is_resumed_merged_described_verified_and_exported(
    recipe_file, root, tmp_path, schedule
):
    changes = [
        "train.accumulate_grad_batches=1",
        "train.optimizer=sgd",
        "train.checkpoint_steps=1",
    ]
    meta = (
        f"meta={{schedule: {schedule}, lr: 0.1, init_scale: 0.5, outer_every: 1,"
        " warmup: 0}"
    )
    recipe = load_recipe(recipe_file, [meta, METHODS[schedule], *changes])
    run = finetune(recipe, tmp_path / "unbroken")
    with pytest.raises(Interrupted):
        finetune(recipe, tmp_path, SignalAtStep())
    resumed = finetune(recipe, tmp_path, resume=tmp_path / "bars/001")
    assert resumed.metadata["bundle_sha256"] == run.metadata["bundle_sha256"]
    table = pd.read_csv(run.folder / "modulator.csv")
    last = table[table["epoch"] == table["epoch"].max()]
    assert (
        last["spread"].gt(0).all()
        and (resumed.folder / "modulator.csv").read_bytes()
        == (run.folder / "modulator.csv").read_bytes()
    )

    bundle = Bundle.load(run.folder)
    unmerged = load_unmerged_classifier(bundle, "cpu")
    merged = load_classifier(bundle, "cpu")
    images = torch.randn(
        3, len(bundle.contract.planes), recipe.data.size, recipe.data.size
    )
    with torch.no_grad():
        assert torch.allclose(merged(images), unmerged(images), atol=1e-4)
    modulator = unmerged.adapted.modulator
    assert bundle.tensors["gamma"].shape == modulator.gamma.shape and len(
        modulator.gamma
    ) > 24 * len(modulator.sites)
    assert verify_bundle(run.folder).faults == []
    if schedule == "joint":
        # compares the graph with the classifier
        export_bundle(run.folder, "torch-export", data=root)
