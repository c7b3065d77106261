"""What an export may differ by."""

from __future__ import annotations

import numpy as np
import pytest

from rsft.errors import WeightsError
from rsft.inference.export.parity import Change, TooLossy, changes, difference, losses, must_fit, must_keep
from rsft.models.outputs import Outputs

LOGITS = np.array([[0.5, -0.5], [20.0, -20.0]], np.float32)
FEATURES = np.ones((2, 3), np.float32)
WANTED = Outputs(LOGITS, FEATURES)


@pytest.mark.parametrize(
    ("precision", "off", "fits"),
    [("fp32", 9e-4, True), ("fp32", 2e-3, False), ("bf16", 0.19, True), ("bf16", 0.21, False), ("bf16", np.nan, False)],
)
def test_logits(precision, off, fits):
    found = difference(Outputs(LOGITS + np.float32(off), FEATURES), WANTED, precision)
    assert found.fits is fits
    if not fits:
        with pytest.raises(WeightsError, match="is allowed"):
            must_fit(found, "here")


@pytest.mark.parametrize(("off", "fits"), [(0.004, True), (0.006, False)])
def test_features_count_as_a_share_of_the_largest(off, fits):
    wanted = Outputs(LOGITS, 5 * FEATURES)
    assert difference(Outputs(LOGITS, 5 * FEATURES + np.float32(off)), wanted, "fp32").fits is fits


def test_changes_by_group():
    truth = np.array([0] * 6 + [1] * 4)
    right = np.eye(3, dtype=np.float32)[truth]
    worse = right.copy()
    worse[6:8] = [1, 0, 0]
    groups = {"head": [0], "medium": [2], "tail": [1]}
    features = np.zeros((10, 1), np.float32)
    table = changes(Outputs(right, features), Outputs(worse, features), truth, groups)
    assert {name: (change.lost, change.chips, change.differ) for name, change in table.items()} == {
        "overall": (pytest.approx(20), 10, 2),
        "head": (0, 6, 0),
        "tail": (50, 4, 2),
    }
    assert losses(table, 20.1) == "50.00 points tail" and losses(table, 50) == ""
    must_keep(table, 50, "here")
    with pytest.raises(TooLossy, match=r"int8 loses 50\.00 points tail; 30 are allowed") as caught:
        must_keep(table, 30, "here")
    assert caught.value.table == table


def test_the_limit_itself_is_kept():
    assert losses({"tail": Change(0.70, 0.695, 200, 1)}, 0.5) == ""
    assert losses({"tail": Change(0.70, 0.69, 200, 2)}, 0.5) == "1.00 points tail"


def test_being_better_is_no_loss():
    truth = np.array([0, 1])
    better, worse = np.eye(2, dtype=np.float32), np.eye(2, dtype=np.float32)[[0, 0]]
    features = np.zeros((2, 1), np.float32)
    must_keep(changes(Outputs(worse, features), Outputs(better, features), truth, {"tail": [1]}), 0, "here")
