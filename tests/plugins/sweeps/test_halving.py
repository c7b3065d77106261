"""Which trials are stopped early."""

import pytest

from rsft.plugins.sweeps.halving import Halving, HalvingListener, read_trial_epochs
from rsft.study.runs import StoppedEarlyError
from rsft.training.runs.reader import read_epochs


def epochs(*values, name="val_macro"):
    rows = []
    for number, value in enumerate(values):
        row = {"epoch": float(number)}
        if value is not None:
            row[name] = value
        rows.append(row)
    return rows


@pytest.mark.parametrize(
    ("values", "others", "is_behind"),
    [
        ([0.1], [], False),
        ([0.1], [[0.2]], True),
        ([0.3], [[0.2]], False),
        ([0.2], [[0.2]], False),
        ([0.1], [[None, 0.2]], True),
        ([None], [[0.2]], False),
        ([None, 0.1], [[0.2]], True),
        ([0.1, 0.1], [[0.2, 0.2]], False),
        ([0.1, 0.1, 0.1, 0.1], [[0.2, 0.2, 0.2]], False),
        ([0.1, 0.1, 0.1, 0.1], [[0.2, 0.2, 0.2, 0.2]], True),
        ([0.5], [[0.6], *[[0.1]] * 6], False),
        ([0.5], [[0.6], [0.7], *[[0.1]] * 5], True),
        ([0.1] * 16, [[0.9] * 16], False),
    ],
)
def test_the_best_quarter_goes_on(values, others, is_behind):
    halving = Halving("val_macro", "max", 1, 16)
    rivals = [epochs(*other) for other in others]
    assert halving.is_behind(epochs(*values), rivals) == is_behind


def test_losses_and_grace():
    halving = Halving("val_loss", "min", 3, 9)

    def is_behind(*values):
        rivals = [epochs(1.0, 1.0, 1.0, name="val_loss")]
        return halving.is_behind(epochs(*values, name="val_loss"), rivals)

    assert not is_behind(2.0, 2.0) and not is_behind(0.5, 0.5, 0.5)
    assert is_behind(0.5, 0.5, 2.0)


def test_the_rows_of_all_trials_are_read_from_their_runs(tmp_path):
    for name, value in (("a", 0.9), ("b", 0.2)):
        run = tmp_path / name / "bars/001"
        run.mkdir(parents=True)
        (run / "metrics.csv").write_text(f"epoch,val_macro\n0,{value}\n")
    (tmp_path / "c").mkdir()
    halving = Halving("val_macro", "max", 1, 4)
    HalvingListener(halving, tmp_path / "a").on_epoch_end({}, {})
    with pytest.raises(StoppedEarlyError, match="asha"):
        HalvingListener(halving, tmp_path / "b").on_epoch_end({}, {})


def test_epochs_of_the_newest_run(tmp_path):
    assert read_trial_epochs(tmp_path) == []
    for number, table in (("001", "epoch,a\n0,1\n"), ("002", "epoch,a\n0,\n1,2\n")):
        run = tmp_path / "bars" / number
        run.mkdir(parents=True)
        (run / "metrics.csv").write_text(table)
    assert read_epochs(tmp_path / "bars/001") == [{"epoch": 0.0, "a": 1.0}]
    assert read_trial_epochs(tmp_path) == [{"epoch": 0.0}, {"epoch": 1.0, "a": 2.0}]
