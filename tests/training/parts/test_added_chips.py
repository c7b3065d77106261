from unittest.mock import MagicMock

import numpy as np
import pandas as pd
import pytest
import torch

from rsft.models.bundle.bundle import Bundle
from rsft.training import fit
from rsft.training.checkpointing import TrainingPosition
from rsft.training.finetune import finetune
from rsft.training.optim.optimizers import make_losses
from rsft.training.parts.added_chips import (
    AddedChips,
    count_repeats,
    find_added_chips,
    repeat_added_chips,
)
from rsft.training.replay import correction_recipe, replay
from tests.training.init.test_start_bundle import edit_store


def test_added_chips_are_marked_by_their_date():
    assert find_added_chips(pd.DataFrame({"name": ["a", "b"]})).tolist() == []
    table = pd.DataFrame(
        {
            "added_on": [
                None,
                "2026-11-26T12:00:00+00:00",
                "",
                float("nan"),
                "2026-11-27",
            ]
        }
    )
    assert find_added_chips(table).tolist() == [1, 4]


def test_added_chips_are_repeated_where_an_epoch_may_use_them():
    members = [np.array([0, 1, 2, 3]), np.array([0, 1, 3])]
    repeated = repeat_added_chips(lambda epoch: members[epoch], np.array([2, 3]), 3)
    assert sorted(repeated(0)) == [0, 1, 2, 2, 2, 3, 3, 3] and sorted(repeated(1)) == [
        0,
        1,
        3,
        3,
        3,
    ]
    assert repeat_added_chips(members.__getitem__, np.array([2]), 1)(0) is members[0]


def test_auto_repeats_make_added_chips_a_quarter_of_the_draws():
    for added, chips in ((12, 846), (20, 120), (1, 10_000)):
        repeats = count_repeats("auto", added, chips)
        assert repeats * added / (chips - added + repeats * added) == pytest.approx(
            0.25, abs=0.05
        )
    assert count_repeats("auto", 90, 100) == 1 and count_repeats("auto", 0, 100) == 1
    assert count_repeats("auto", 12, 846) == 23 and count_repeats(7, 12, 846) == 7


@pytest.mark.slow
def test_an_epoch_draws_added_chips_more_often(run, root, tmp_path, monkeypatch):
    counts = []

    def record(loss, class_counts, *exponents):
        counts.append(class_counts.tolist())
        return make_losses(loss, class_counts, *exponents)

    monkeypatch.setattr("rsft.training.assembly.make_losses", record)

    def edit(table):
        return table.assign(
            added_on=np.where(table["class"] == "slanted", "2026-11-26", None)
        )

    store = edit_store(root, tmp_path / "more", list(Bundle.load(run).classes), edit)
    overrides = [
        f"data.root={store}",
        "train.repeat_added=6",
        "train.epochs=1",
        "meta.holdout=false",
    ]
    again = finetune(correction_recipe(run, overrides), tmp_path / "runs")
    slanted = Bundle.load(run).classes.index("slanted")
    assert counts[0][slanted] == 4 * 6 and sum(counts[0]) == 40 + 5 * 4
    metrics = pd.read_csv(again.folder / "metrics.csv")
    assert metrics["step"].tolist() == [8]  # 60 draws in batches of 8
    assert Bundle.load(again.folder).train_counts[slanted] == 4


class Weights:
    """Stands for a classifier: its learned tensors."""

    def __init__(self, **tensors):
        self.state = {name: torch.tensor(values) for name, values in tensors.items()}

    def learned_state(self):
        return self.state

    def load_learned_state(self, state):
        self.state = state


@pytest.mark.parametrize(
    ("needed", "share", "weight"), [(0.35, 0.4, 1.4), (0.95, 1.0, 2.0), (3.0, 1.0, 2.0)]
)
def test_the_shortest_step_keeps_added_chips_right(monkeypatch, needed, share, weight):
    weights = Weights(a=[2.0, float("-inf")])
    added = AddedChips.__new__(AddedChips)
    added.classifier = weights
    monkeypatch.setattr(
        added, "are_right", lambda: float(weights.state["a"][0]) >= 1 + needed
    )
    steps = []

    def load_start():
        steps.append("start")
        weights.state = {"a": torch.tensor([1.0, 0.0])}

    added.load_start = load_start
    assert added.shorten_step() == share
    assert weights.state["a"].tolist() == pytest.approx([weight, float("-inf")])
    assert steps == ["start"] * (needed < 1)  # weights that do not suffice are kept


@pytest.mark.slow
def test_a_run_stops_when_its_added_chips_are_right(run, root, tmp_path):
    def edit(table):
        added = (table["split"] == "train") & (table["class"] == "steep")
        labels = table["class"].mask(added, "slanted")
        return table.assign(
            **{"class": labels, "added_on": np.where(added, "2026-11-26", None)}
        )

    store = edit_store(root, tmp_path / "more", list(Bundle.load(run).classes), edit)
    keys = [f"data.root={store}", "train.lr=0.02", "meta.lr=1.0e-9"]
    again = finetune(correction_recipe(run, keys), tmp_path / "runs")
    _, part = replay(again.folder).parts
    assert (
        part.chips == 12 == sum(round(item.after * item.chips) for item in part.classes)
    )
    assert (
        len(pd.read_csv(again.folder / "metrics.csv")) < 30
        and 0 < again.metadata["step_share"] <= 1
    )
    short = finetune(
        correction_recipe(run, [*keys, "train.lr=1.0e-9", "train.epochs=2"]),
        tmp_path / "runs",
    )
    assert (
        len(pd.read_csv(short.folder / "metrics.csv")) == 2
        and short.metadata["step_share"] == 1.0
    )


@pytest.mark.parametrize(("batch", "checks"), [(0, [1]), (2, [])])
def test_a_run_that_resumes_within_an_epoch_finishes_it(monkeypatch, batch, checks):
    """Only the end of an epoch decides, as in a run without a stop."""
    seen = []
    learner = MagicMock()
    learner.train.epochs = 2
    learner.train.patience = None
    learner.train.min_delta = 0.0
    checkpointer = MagicMock()
    checkpointer.restore.return_value = TrainingPosition(1, batch)
    monkeypatch.setattr(fit, "Checkpointer", lambda *_: checkpointer)
    monkeypatch.setattr(fit, "Recorder", MagicMock())
    monkeypatch.setattr(
        fit, "train_epoch", lambda *position: seen.append(position[1:]) or []
    )
    monkeypatch.setattr(fit, "validate", lambda *_: {"val_macro": 0.5})
    checked = []
    learner.is_done = lambda: checked.append(1) or True
    fit.fit(learner, {}, MagicMock(every=1), MagicMock())
    assert checked == checks and seen == ([] if checks else [(1, 2)])
