import pandas as pd
import pytest

from rsft.recipe.load import load_recipe
from rsft.training.finetune import finetune
from rsft.training.init.prefix_cache import can_cache_prefix
from tests.helpers.learners import open_learner

pytestmark = pytest.mark.slow

OVERRIDES = ["data.augment=none", "peft.blocks=last:2", "train.epochs=2"]


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("overrides", "blocks_kept"),
    [
        ([], 1),
        (
            [
                "head.earlier_blocks=[0, 1]",
                "train.precision=bf16",
                "meta.schedule=joint",
            ],
            1,
        ),
        (["head.earlier_blocks=[1]"], 1),
    ],
)
def test_cached_tokens_give_the_same_run(
    recipe_file, tmp_path, monkeypatch, overrides, blocks_kept
):
    overrides = [*OVERRIDES, *overrides]
    cached = finetune(load_recipe(recipe_file, overrides), tmp_path / "a")
    monkeypatch.setattr(
        "rsft.training.assembly.can_cache_prefix", lambda chips, adapted: False
    )
    plain = finetune(load_recipe(recipe_file, overrides), tmp_path / "b")
    assert (cached.metadata["blocks_kept"], plain.metadata["blocks_kept"]) == (
        blocks_kept,
        0,
    )
    columns = ["train_loss", "meta_loss", "val_loss", "val_macro"]
    first = pd.read_csv(cached.folder / "metrics.csv")[columns]
    second = pd.read_csv(plain.folder / "metrics.csv")[columns]
    pd.testing.assert_frame_equal(first, second, rtol=1e-4)


def test_tokens_are_computed_once(recipe_file, tmp_path, monkeypatch):
    finetune(load_recipe(recipe_file, OVERRIDES), tmp_path)
    monkeypatch.setattr("rsft.training.init.frozen_features.atomic_file", None)
    finetune(load_recipe(recipe_file, OVERRIDES), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "overrides",
    [
        ["data.augment=sar", "peft.blocks=last:2"],
        ["peft.blocks=all"],
        ["peft={method: vpt-shallow}", "meta=null"],
    ],
)
def test_without_a_frozen_prefix_nothing_is_cached(recipe_file, tmp_path, overrides):
    run = finetune(
        load_recipe(recipe_file, ["data.augment=none", "train.epochs=1", *overrides]),
        tmp_path,
    )
    assert run.metadata["blocks_kept"] == 0


def test_the_prefix_is_tried_on_the_device_of_the_network(recipe_file):
    """Tensors of the meta device have no values, but an operation on them and on a
    tensor of the CPU fails."""
    learner = open_learner(
        load_recipe(recipe_file, ["data.augment=sar", *OVERRIDES[1:]])
    )
    assert can_cache_prefix(
        learner.batches.train, learner.classifier.adapted.to("meta")
    )
