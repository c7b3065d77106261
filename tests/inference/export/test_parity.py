"""How far the outputs and the accuracy of an export may differ."""

import numpy as np
import pytest

from rsft.inference.engines.base import EXACT, QUANTIZED, ROUNDED
from rsft.inference.engines.traceable import compare_outputs
from rsft.inference.export.export import AccuracyChange, accuracy_changes
from rsft.models.outputs import ClassifierOutputs
from tests.helpers.messages import mentions

LOGITS = np.array([[0.5, -0.5], [20.0, -20.0]], np.float32)
FEATURES = np.ones((2, 3), np.float32)
REFERENCE = ClassifierOutputs(LOGITS, FEATURES)


@pytest.mark.parametrize(
    ("tolerance", "error", "fits"),
    [
        (EXACT, 9e-4, True),
        (EXACT, 2e-3, False),
        (ROUNDED, 0.19, True),
        (ROUNDED, 0.21, False),
        (ROUNDED, np.nan, False),
    ],
)
def test_logits(tolerance, error, fits):
    difference = compare_outputs(
        ClassifierOutputs(LOGITS + np.float32(error), FEATURES), REFERENCE, tolerance
    )
    assert difference.fits is fits


@pytest.mark.parametrize(("error", "fits"), [(0.004, True), (0.006, False)])
def test_features_are_compared_as_a_share_of_the_largest(error, fits):
    reference = ClassifierOutputs(LOGITS, 5 * FEATURES)
    outputs = ClassifierOutputs(LOGITS, 5 * FEATURES + np.float32(error))
    assert compare_outputs(outputs, reference, EXACT).fits is fits


def test_int8_is_not_compared_output_by_output():
    with pytest.raises(ValueError, match=mentions("not compared")):
        compare_outputs(REFERENCE, REFERENCE, QUANTIZED)


def test_changes_by_group():
    truth = np.array([0] * 6 + [1] * 4)
    right = np.eye(3, dtype=np.float32)[truth]
    worse = right.copy()
    worse[6:8] = [1, 0, 0]
    groups = {"head": [0], "medium": [2], "tail": [1]}
    features = np.zeros((10, 1), np.float32)
    table = accuracy_changes(
        ClassifierOutputs(right, features),
        ClassifierOutputs(worse, features),
        truth,
        groups,
    )
    assert {
        name: (change.lost, change.chips, change.differ)
        for name, change in table.items()
    } == {
        "overall": (pytest.approx(20), 10, 2),
        "head": (0, 6, 0),
        "tail": (50, 4, 2),
    }


def test_a_chip_of_200_is_half_a_point_and_being_better_is_no_loss():
    assert (
        AccuracyChange(0.70, 0.695, 200, 1).lost == 0.5
        and AccuracyChange(0.70, 0.75, 200, 2).lost == -5
    )
