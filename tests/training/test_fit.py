"""The training loop: the order of its calls, and its listeners."""

import pandas as pd
import pytest

from rsft.recipe.load import load_recipe
from rsft.training.checkpointing import load_newest_checkpoint
from rsft.training.finetune import finetune
from rsft.training.listeners import RunListener


class CallRecorder(RunListener):
    """Records the calls of the loop in order."""

    def __init__(self):
        self.calls = []

    def on_start(self, run, metadata):
        self.calls.append("start")

    def on_step(self, step):
        self.calls.append((step.epoch, step.step, step.done, step.total))

    def on_epoch_end(self, row, scales):
        self.calls.append(
            ("epoch", row["epoch"], row["val_macro"] == row["val_macro"], len(scales))
        )

    def on_end(self, failed):
        self.calls.append(("end", failed))


@pytest.mark.slow
def test_the_order_of_the_loop(recipe_file, tmp_path):
    fit = CallRecorder()
    recipe = load_recipe(
        recipe_file, ["train.batch_size=20", "evaluate.every=2", "meta.warmup=0"]
    )
    finetune(recipe, tmp_path, fit)
    steps = [
        (epoch, step, 2 * epoch + step, 6) for epoch in range(3) for step in (1, 2)
    ]
    # the last one has a validation
    epochs = [
        ("epoch", 0, False, 18),
        ("epoch", 1, True, 18),
        ("epoch", 2, True, 18),
    ]
    expected = [
        steps[0:2],
        epochs[0:1],
        steps[2:4],
        epochs[1:2],
        steps[4:6],
        epochs[2:3],
    ]
    assert fit.calls == [
        "start",
        *(call for calls in expected for call in calls),
        ("end", False),
    ]


@pytest.mark.slow
def test_listeners_hear_of_an_error(recipe_file, tmp_path):
    class FailAtTheThirdStep(CallRecorder):
        def on_step(self, step):
            super().on_step(step)
            if step.done == 3:
                raise ValueError("a listener fails")

    fit = FailAtTheThirdStep()
    with pytest.raises(ValueError, match="a listener fails"):
        finetune(load_recipe(recipe_file), tmp_path, fit)
    assert fit.calls[-1] == ("end", True) and fit.calls[-2][2] == 3


@pytest.mark.slow
def test_a_resume_after_the_last_step_of_an_epoch_begins_with_the_validation(
    recipe_file, tmp_path, run, monkeypatch
):
    overrides = ["train.checkpoint_steps=1"]

    def fail(*_, **__):
        raise RuntimeError("validation fails")

    with (
        monkeypatch.context() as patch,
        pytest.raises(RuntimeError, match="validation fails"),
    ):
        patch.setattr("rsft.training.fit.validate", fail)
        finetune(load_recipe(recipe_file, overrides), tmp_path)
    folder = tmp_path / "bars/001"
    assert tuple(load_newest_checkpoint(folder / "checkpoints").position) == (0, 4)
    fit = CallRecorder()
    finetune(load_recipe(recipe_file, overrides), tmp_path, fit, resume=folder)
    assert fit.calls[1] == ("epoch", 0, True, 18)
    columns = ["epoch", "step", "train_loss", "meta_loss", "val_loss", "val_macro"]
    tables = (pd.read_csv(path / "metrics.csv")[columns] for path in (folder, run))
    pd.testing.assert_frame_equal(*tables)
