"""Columns of the predictions table from logits."""

from types import SimpleNamespace

import numpy as np
import pytest

from rsft.errors import WeightsError
from rsft.inference.predict.result_table import predictions_table
from rsft.models.outputs import ClassifierOutputs
from rsft.models.uncertainty.calibrator import ConfidenceEstimate

LOGITS = np.log(np.array([[0.2, 0.7, 0.1], [0.5, 0.1, 0.4]], np.float32))
NAMES = ("a", "b", "c")


def test_uncalibrated():
    table = predictions_table(ClassifierOutputs(LOGITS, LOGITS), NAMES, None)
    assert list(table.columns) == [
        "class",
        "probability",
        "class_2",
        "probability_2",
        "p_a",
        "p_b",
        "p_c",
    ]
    assert table.to_numpy()[0].tolist() == ["b", 0.7, "a", 0.2, 0.2, 0.7, 0.1]
    assert table.to_numpy()[1].tolist() == ["a", 0.5, "c", 0.4, 0.5, 0.1, 0.4]


def test_calibrated():
    sets = np.array([[True, True, False], [True, False, True]])
    estimate = ConfidenceEstimate(
        np.array([[0.3, 0.4, 0.3], [0.5, 0.2, 0.3]]), sets, np.array([0.5, 1.5])
    )
    calibrator = SimpleNamespace(apply=lambda logits, features: estimate)
    table = predictions_table(ClassifierOutputs(LOGITS, LOGITS), NAMES, calibrator)
    assert table["probability"].tolist() == [0.4, 0.5] and table[
        "class_set"
    ].tolist() == ["b | a", "a | c"]
    assert table["ood"].tolist() == [False, True] and table[
        "ood_distance"
    ].tolist() == [0.5, 1.5]


def test_single_class():
    assert "class_2" not in predictions_table(
        ClassifierOutputs(LOGITS[:, :1], LOGITS), ("a",), None
    )


def test_logits_that_are_not_finite():
    with pytest.raises(WeightsError, match="not finite"):
        predictions_table(ClassifierOutputs(LOGITS * np.nan, LOGITS), NAMES, None)
