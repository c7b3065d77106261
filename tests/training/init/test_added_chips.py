import numpy as np
import pandas as pd
import pytest

from rsft.models.bundle.bundle import Bundle
from rsft.training.finetune import finetune
from rsft.training.init import count_repeats, find_added_chips, repeat_added_chips
from rsft.training.optim.optimizers import make_losses
from rsft.training.replay import correction_recipe

from .test_start_bundle import edit_store


def test_added_chips_are_marked_by_their_date():
    assert find_added_chips(pd.DataFrame({"name": ["a", "b"]})).tolist() == []
    table = pd.DataFrame({"added_on": [None, "2026-11-26T12:00:00+00:00", "", float("nan"), "2026-11-27"]})
    assert find_added_chips(table).tolist() == [1, 4]


def test_added_chips_are_repeated_where_an_epoch_may_use_them():
    members = [np.array([0, 1, 2, 3]), np.array([0, 1, 3])]
    repeated = repeat_added_chips(lambda epoch: members[epoch], np.array([2, 3]), 3)
    assert sorted(repeated(0)) == [0, 1, 2, 2, 2, 3, 3, 3] and sorted(repeated(1)) == [0, 1, 3, 3, 3]
    assert repeat_added_chips(members.__getitem__, np.array([2]), 1)(0) is members[0]


def test_auto_repeats_make_added_chips_a_quarter_of_the_draws():
    for added, chips in ((12, 846), (20, 120), (1, 10_000)):
        repeats = count_repeats("auto", added, chips)
        assert repeats * added / (chips - added + repeats * added) == pytest.approx(0.25, abs=0.05)
    assert count_repeats("auto", 90, 100) == 1 and count_repeats("auto", 0, 100) == 1
    assert count_repeats(7, 12, 846) == 7


@pytest.mark.slow
def test_an_epoch_draws_added_chips_more_often(run, root, tmp_path, monkeypatch):
    counts = []

    def record(loss, class_counts, *exponents):
        counts.append(class_counts.tolist())
        return make_losses(loss, class_counts, *exponents)

    monkeypatch.setattr("rsft.training.finetune.make_losses", record)

    def edit(table):
        return table.assign(added_on=np.where(table["class"] == "slanted", "2026-11-26", None))

    store = edit_store(root, tmp_path / "more", list(Bundle.load(run).classes), edit)
    overrides = [f"data.root={store}", "train.repeat_added=6", "train.epochs=1", "meta.holdout=false"]
    again = finetune(correction_recipe(run, overrides), tmp_path / "runs")
    slanted = Bundle.load(run).classes.index("slanted")
    assert counts[0][slanted] == 4 * 6 and sum(counts[0]) == 40 + 5 * 4
    metrics = pd.read_csv(again.folder / "metrics.csv")
    assert metrics["step"].tolist() == [8]  # 60 draws in batches of 8
    assert Bundle.load(again.folder).train_counts[slanted] == 4
