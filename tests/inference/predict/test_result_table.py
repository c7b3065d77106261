"""Columns of the predictions table from logits."""

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from rsft.errors import WeightsError
from rsft.inference.predict.batch_journal import BatchResult
from rsft.inference.predict.result_table import (
    add_disagreements,
    collect_results,
    predictions_table,
)
from rsft.models.outputs import ClassifierOutputs
from rsft.models.uncertainty.calibrator import ConfidenceEstimate
from rsft.scenes.locations import Location
from tests.helpers.scenes import toy_bundle

LOGITS = np.log(np.array([[0.2, 0.7, 0.1], [0.5, 0.1, 0.4]], np.float32))
NAMES = ("a", "b", "c")


def test_uncalibrated():
    table = predictions_table(ClassifierOutputs(LOGITS, LOGITS), NAMES, None)
    columns = ["class", "probability", "class_2", "probability_2", "p_a", "p_b", "p_c"]
    table = table[columns]
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


def test_attributes_of_positions_stand_before_the_geometry(tmp_path):
    locations = [Location(1, 2, None, "a"), Location(3, 4, None, "b")]
    attributes = pd.DataFrame({"at": [7, 8], "class": ["x", "y"], "mmsi": [1, 2]})
    positions = [
        SimpleNamespace(locations=locations, attributes=attributes, rejected=[]),
        SimpleNamespace(locations=[], attributes=None, rejected=[("p.csv", 1, "no")]),
    ]
    plan = SimpleNamespace(positions=positions, notes=["a note"])
    rows = pd.DataFrame(
        {
            "chip": ["b", "a"],
            "class": ["dark", "bright"],
            "probability": [0.75, 0.5],
            "at": [8, 7],
            "geometry": [None, None],
        }
    )
    result = BatchResult(rows, [], Counter())
    journal = SimpleNamespace(collect=lambda: result)
    table, rejected, notes = collect_results(journal, plan, toy_bundle())
    assert table["mmsi"].tolist() == [2, 1] and table["at_class"].tolist() == ["y", "x"]
    assert list(table)[-1] == "geometry" and rejected == [("p.csv", 1, "no")]
    assert notes[0] == "a note"


def test_only_known_classes_of_matched_objects_are_compared():
    status = ["matched", "matched", "ambiguous", "no AIS", "matched"]
    rows = pd.DataFrame(
        {"ais_status": status, "ais_class": ["cargo", "cargo", "cargo", None, "tug"]}
    )
    noted = add_disagreements(
        rows,
        pd.Series(["fishing", "cargo", "fishing", "cargo", "cargo"]),
        ["cargo", "fishing"],
    )
    assert noted["ais_note"].tolist()[0] == "AIS says cargo, the image says fishing"
    assert noted["ais_note"].isna().tolist() == [False, True, True, True, True]
    assert add_disagreements(
        pd.DataFrame({"a": [1]}), pd.Series(["x"]), ["x"]
    ).columns.tolist() == ["a"]
