"""LoRA at the paper's settings leaves the frozen network, and collapses where the paper
says that it does."""

import pytest
import torch
from torch.nn import functional as F

from rsft.models.devices import copy_batch, copy_to_device
from rsft.recipe.library import find_recipe
from rsft.recipe.load import load_recipe
from rsft.training.fit import train_on_batch
from tests.helpers.learners import open_learner

pytestmark = [pytest.mark.slow, pytest.mark.exhaustive]

CLASSES = ("cargo", "fishing", "tanker", "dredger")
CHIPS = {
    "train": {"cargo": 160, "fishing": 120, "tanker": 30, "dredger": 18},
    "val": dict.fromkeys(CLASSES, 6),
    "test": dict.fromkeys(CLASSES, 1),
}


@pytest.fixture(scope="module")
def ships(tmp_path_factory):
    """Simulated SAR ships of the four classes of FUSRS."""
    demo = pytest.importorskip("rsft.plugins.demo.prepare")
    return demo.prepare_demo(
        tmp_path_factory.mktemp("ships") / "store", counts=CHIPS, scenes=4, jobs=1
    ).root


def train_first_epoch(ships, *overrides):
    """Train one of the ten epochs of satmae_sar_lora on a small ViT; return the
    movement of its features, 0-2.

    The batch has 8 chips, so that an epoch has the 41 steps of an epoch of FUSRS at
    batch 128. The rates are multiplied by sqrt(128 / 8), so that the rate of a step is
    the paper's.
    """
    small = [
        "backbone={name: vit_tiny_patch8_64.simship}",
        "data.size=64",
        "data.workers=0",
        "peft.blocks=all",
    ]
    rates = ["train.lr=0.08", "train.head_lr=0.04"]
    batches = [
        "train.batch_size=8",
        "train.precision=fp32",
        f"data.root={ships}",
        *rates,
    ]
    recipe = load_recipe(find_recipe("satmae_sar_lora"), [*small, *batches, *overrides])
    learner = open_learner(recipe)
    loader = learner.batches.validation_loader()
    images = torch.cat([copy_to_device(inputs, "cpu") for inputs, _ in loader])

    @torch.no_grad()
    def features():
        return learner.classifier.eval().features(images)

    frozen = features()
    learner.classifier.train()
    for index, batch in enumerate(learner.batches.training_loader(0)):
        train_on_batch(learner, copy_batch(batch, "cpu"), 0, index)
    return float(1 - F.cosine_similarity(features(), frozen).mean())


def test_lora_of_the_paper_leaves_the_frozen_features(ships):
    movement = train_first_epoch(ships)
    assert movement > 0.01


def test_with_the_start_of_hugging_face_it_is_a_linear_probe(ships):
    movement = train_first_epoch(ships, "peft.init=width")
    assert movement < 1e-3


@pytest.mark.parametrize(("rank", "low", "high"), [(1, 0.2, 2.0), (32, 0.0, 0.01)])
def test_rank_one_at_alpha_four_breaks_the_features(ships, rank, low, high):
    """Paper, Figure S2: the best alpha grows with the rank; at alpha 4, rank 1
    collapses and rank 32 does not."""
    method = (
        f"{{method: lora, rank: {rank}, positions: qkvo12, blocks: all, alpha: 4, init:"
        " rank}"
    )
    movement = train_first_epoch(ships, f"peft={method}")
    assert low <= movement <= high
