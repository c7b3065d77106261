"""Whole runs with a mean of the weights and with unlabeled chips."""

import os
import shutil
import signal
from unittest.mock import Mock

import cv2
import numpy as np
import pandas as pd
import pytest
import torch

from rsft.data.chips.store import ChipStore
from rsft.data.imagery.reader import read_chip
from rsft.data.loading import packing
from rsft.errors import Interrupted, RequestError
from rsft.models.bundle.bundle import Bundle
from rsft.models.classifier import Classifier
from rsft.recipe.load import load_recipe
from rsft.training import fit
from rsft.training.finetune import finetune
from rsft.training.listeners import RunListener
from rsft.training.parts import pseudo_labels
from rsft.training.parts.average import TEACHER_DECAY, WeightAverage
from rsft.training.runs.reader import TIMING_COLUMNS
from tests.helpers.messages import mentions
from tests.helpers.pool_chips import pixels, write

pytestmark = pytest.mark.slow

LORA = [
    "backbone.blocks=2",
    "train.checkpoint_steps=1",
    "train.batch_size=16",
    "evaluate.every=2",
]
SMALL = [
    "backbone={name: aconvnet, pool: avg}",
    "peft={method: full}",
    "meta=null",
    "head.init=random",
    "train.checkpoint_steps=1",
    "train.batch_size=16",
    "evaluate.every=2",
    "data.stretch=chip-standard",
]
SEMI = ["semi={start: 0.1, threshold: 0.3, foreign: 0.3, align: uniform}"]
TRIALS = {
    "mean, LoRA, gamma": [*LORA, "train.ema=0.5"],
    "mean, small network": [*SMALL, "train.ema=0.5"],
    "pool, LoRA, gamma": [*LORA, *SEMI],
    "pool, small network": [*SMALL, *SEMI],
}


@pytest.fixture(autouse=True)
def user_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(
        packing, "user_cache_path", lambda name: tmp_path / "cache" / name
    )


@pytest.fixture
def archive(tmp_path):
    """Folder of 12 chips without labels."""
    folder = tmp_path / "archive"
    folder.mkdir()
    for seed in range(12):
        write(folder / f"{seed:02d}.png", pixels(seed))
    return folder


@pytest.fixture
def recipe(recipe_file, archive):
    def load(*overrides):
        pool = (
            [f"data.unlabeled={archive}"]
            if any(key.startswith("semi=") for key in overrides)
            else []
        )
        return load_recipe(recipe_file, [*pool, *overrides])

    return load


def results(run):
    """Return the tables without timing, and the hash of the bundle."""
    texts = []
    for name in ("metrics.csv", "pseudo_labels.csv"):
        if (run.folder / name).is_file():
            table = pd.read_csv(run.folder / name)
            texts.append(
                table.drop(columns=list(TIMING_COLUMNS), errors="ignore").to_csv()
            )
    return [*texts, run.metadata["bundle_sha256"]]


class SignalAtStep(RunListener):
    def __init__(self, step):
        self.step = step

    def on_step(self, step):
        if step.done == self.step:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.slow
@pytest.mark.parametrize("trial", TRIALS)
def test_a_resumed_run_equals_an_unbroken_one(recipe, tmp_path, monkeypatch, trial):
    loaded = recipe(*TRIALS[trial])
    unbroken = results(finetune(loaded, tmp_path / "unbroken"))
    for step in (2, 5):
        with pytest.raises(Interrupted):
            finetune(loaded, tmp_path / f"step {step}", SignalAtStep(step))
        resumed = finetune(
            loaded, tmp_path / f"step {step}", resume=tmp_path / f"step {step}/bars/001"
        )
        assert results(resumed) == unbroken
    forward = Classifier.forward

    def signal_in_validation(classifier, inputs):
        if torch.is_inference_mode_enabled():
            os.kill(os.getpid(), signal.SIGTERM)
        return forward(classifier, inputs)

    with (
        monkeypatch.context() as patch,
        pytest.raises(Interrupted, match="saved at epoch 2, batch"),
    ):
        patch.setattr(Classifier, "forward", signal_in_validation)
        finetune(loaded, tmp_path / "validation")
    resumed = finetune(
        loaded, tmp_path / "validation", resume=tmp_path / "validation/bars/001"
    )
    assert results(resumed) == unbroken


@pytest.mark.slow
@pytest.mark.parametrize("trial", ["mean, LoRA, gamma", "mean, small network"])
def test_the_mean_is_validated_calibrated_and_stored(
    recipe, tmp_path, monkeypatch, trial
):
    steps = []
    validated = []

    def update(average, step):
        steps.append(
            {key: x.clone() for key, x in average.classifier.learned_state().items()}
        )
        original_update(average, step)

    def init(average, classifier, decay):
        original_init(average, classifier, decay)
        first.append(dict(average.state))

    def validate(learner, *arguments):
        validated.append(
            {key: x.clone() for key, x in learner.classifier.learned_state().items()}
        )
        return original_validate(learner, *arguments)

    first = []
    original_update = WeightAverage.after_step
    original_validate = fit.validate
    original_init = WeightAverage.__init__
    monkeypatch.setattr(WeightAverage, "after_step", update)
    monkeypatch.setattr(fit, "validate", validate)
    monkeypatch.setattr(WeightAverage, "__init__", init)
    run = finetune(recipe(*TRIALS[trial]), tmp_path)
    (expected,) = first
    means = []
    for step, state in enumerate(steps):
        decay = min(0.5, (1 + step) / (10 + step))
        expected = {
            key: decay * expected[key] + (1 - decay) * value
            for key, value in state.items()
        }
        means.append(expected)
    tensors = Bundle.load(run.folder).tensors
    assert tensors.keys() == expected.keys() and len(steps) in (6, 9)
    for key, value in tensors.items():
        torch.testing.assert_close(value, expected[key], atol=1e-6, rtol=1e-5)
    assert any(
        not torch.allclose(value, steps[-1][key], atol=1e-4)
        for key, value in tensors.items()
    )
    assert len(validated) == 2  # after the second and the third epoch
    for state, mean in zip(
        validated, (means[2 * len(steps) // 3 - 1], means[-1]), strict=True
    ):
        for key, value in state.items():
            torch.testing.assert_close(value, mean[key], atol=1e-6, rtol=1e-5)
    if "small" in trial:
        assert {key for key in tensors if "running" in key} and tensors[
            "layer1.0.norm1.running_var"
        ].min() > 0


@pytest.mark.exhaustive
def test_rows_of_pseudo_labels(recipe, tmp_path):
    run = finetune(
        recipe(*LORA, "semi={start: 0.4, threshold: 0.3, ratio: 2}"), tmp_path
    )
    table = pd.read_csv(run.folder / "pseudo_labels.csv")
    assert list(table) == ["epoch", "class_0", "class_1", "class_2", "foreign", "chips"]
    # from the fourth step
    assert table["epoch"].tolist() == [0, 1, 2] and table["chips"].tolist() == [
        0,
        32,
        64,
    ]
    assert (table.iloc[0, 1:] == 0).all() and (
        table["class_0"] + table["class_1"] + table["class_2"]
    ).iloc[2] > 0
    assert (table.iloc[:, 1:5].sum(axis=1) <= table["chips"]).all()
    assert (
        run.metadata["pool"]["chips"] == 12 and run.metadata["pool"]["left_out"] == {}
    )
    without = finetune(recipe(*LORA), tmp_path)
    assert (
        not (without.folder / "pseudo_labels.csv").exists()
        and without.metadata["pool"] is None
    )
    assert without.metadata["bundle_sha256"] != run.metadata["bundle_sha256"]


def test_the_teacher_has_a_decay_without_train_ema(recipe, tmp_path, monkeypatch):
    class Stop(Exception):
        pass

    decays = []
    init = WeightAverage.__init__
    monkeypatch.setattr(
        WeightAverage, "__init__", lambda *args: decays.append(args[2]) or init(*args)
    )
    # the training itself
    monkeypatch.setattr("rsft.training.finetune.fit", Mock(side_effect=Stop))
    for overrides in (
        SEMI,
        [*SEMI, "train.ema=0.7"],
        [*SEMI, "semi.teacher=student"],
        [],
    ):
        with pytest.raises(Stop):
            finetune(recipe(*LORA, *overrides), tmp_path)
    assert decays == [TEACHER_DECAY, 0.7]


@pytest.mark.slow
@pytest.mark.parametrize(
    "meta", ["meta.schedule=joint", "meta.order=2", "meta.warmup=0"]
)
def test_pseudo_labels_within_the_bi_level_loop(recipe, tmp_path, monkeypatch, meta):
    seen = []
    loss = pseudo_labels.PseudoBatch.loss
    monkeypatch.setattr(
        pseudo_labels.PseudoBatch,
        "loss",
        lambda batch, logits: seen.append(len(logits)) or loss(batch, logits),
    )
    optimizer = ["train.optimizer=sgd"] if "order" in meta else []
    run = finetune(recipe(*LORA, *SEMI, meta, *optimizer), tmp_path)
    table = pd.read_csv(run.folder / "metrics.csv")
    assert np.isfinite(table[["train_loss", "meta_loss"]].iloc[1:]).all(axis=None)
    assert seen and min(seen) > 0
    counts = pd.read_csv(run.folder / "pseudo_labels.csv")
    assert sum(seen) >= counts[["class_0", "class_1", "class_2"]].to_numpy().sum() > 0


@pytest.mark.exhaustive
def test_a_pool_with_evaluated_chips_gives_the_same_bundle(
    recipe, root, archive, tmp_path
):
    expected = finetune(recipe(*LORA, *SEMI), tmp_path)
    store = ChipStore.open(root)
    for number, path in enumerate(store.split("val")["path"]):
        shutil.copy(root / path, archive / f"0-{number}.png")
        cv2.imwrite(str(archive / f"zz-{number}.bmp"), read_chip(root / path))
    (archive / "damaged.png").write_bytes(b"")
    run = finetune(recipe(*LORA, *SEMI), tmp_path)
    assert results(run) == results(expected)
    assert run.metadata["pool"]["sha256"] == expected.metadata["pool"]["sha256"]
    assert (
        sum(run.metadata["pool"]["left_out"].values())
        == 2 * len(store.split("val")) + 1
    )


@pytest.mark.exhaustive
def test_a_run_is_not_resumed_with_another_pool(recipe, archive, tmp_path):
    loaded = recipe(*LORA, *SEMI)
    with pytest.raises(Interrupted):
        finetune(loaded, tmp_path, SignalAtStep(4))
    write(archive / "99.png", pixels(99))
    with pytest.raises(RequestError, match=mentions("the chips have changed")):
        finetune(loaded, tmp_path, resume=tmp_path / "bars/001")


def test_a_section_without_chips_is_refused(recipe_file, tmp_path):
    with pytest.raises(RequestError, match=mentions("data.unlabeled")):
        finetune(load_recipe(recipe_file, ["semi={}"]), tmp_path)
    assert not (tmp_path / "bars").exists()
