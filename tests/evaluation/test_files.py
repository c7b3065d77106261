"""Files of an evaluation, and the comparison of two."""

import numpy as np
import pandas as pd
import pytest
from pyarrow.parquet import read_schema

from rsft.errors import DataError, RequestError
from rsft.evaluation.evaluate import evaluate
from rsft.evaluation.files import (
    compare_runs,
    write_predictions,
)
from rsft.models.uncertainty.calibrator import ConfidenceEstimate
from tests.helpers.fake_run import SHIPS, change_metrics, write_fake_run
from tests.helpers.messages import mentions

CHIPS = pd.DataFrame(
    {
        "name": ["x", "y"],
        "path": ["a/x", "b/y"],
        "class": ["a", "b"],
        "other": [1, 2],
    }
)
PROBABILITIES = np.array([[0.75, 0.25], [0.5, 0.5]])


def test_predictions(tmp_path):
    sets = np.array([[True, False], [True, True]])
    estimate = ConfidenceEstimate(PROBABILITIES, sets, np.array([0.5, 1.5]))
    write_predictions(tmp_path, CHIPS, ("a", "b"), PROBABILITIES, estimate)
    table = pd.read_parquet(tmp_path / "predictions.parquet")
    expected = ["name", "path", "class", "predicted", "class_set", "ood", "p_a", "p_b"]
    assert list(table) == expected
    assert read_schema(tmp_path / "predictions.parquet").names == expected
    assert table["predicted"].tolist() == ["a", "a"]  # the first of equal ones
    assert [list(names) for names in table["class_set"]] == [["a"], ["a", "b"]]
    assert table["p_b"].dtype == np.float32 and table["p_b"].tolist() == [0.25, 0.5]
    write_predictions(tmp_path, CHIPS, ("a", "b"), PROBABILITIES, None)
    plain = pd.read_parquet(tmp_path / "predictions.parquet")
    assert list(plain) == ["name", "path", "class", "predicted", "p_a", "p_b"]


@pytest.mark.filterwarnings("error")
def test_predictions_of_a_thousand_classes(tmp_path):
    classes = [f"class {number}" for number in range(1_000)]
    probabilities = np.random.default_rng(0).dirichlet(np.ones(1_000), 2)
    write_predictions(tmp_path, CHIPS, classes, probabilities, None)
    table = pd.read_parquet(tmp_path / "predictions.parquet")
    by_class = table[[f"p_{name}" for name in classes]].to_numpy()
    assert by_class.dtype == np.float32
    assert (by_class == probabilities.astype(np.float32)).all()
    assert table.columns[4] == "p_class 0" and len(table.columns) == 1_004


@pytest.fixture
def runs(tmp_path):
    return [write_fake_run(tmp_path / name, SHIPS) for name in "ab"]


def edit(run, change):
    path = run / "evaluation/predictions.parquet"
    change(pd.read_parquet(path)).to_parquet(path)


def test_the_first_minus_the_second(runs):
    def answer_rightly(table):
        return table.assign(predicted=table["class"])

    edit(runs[0], answer_rightly)
    table = pd.read_parquet(runs[1] / "evaluation/predictions.parquet")
    wrong = (table["class"] != table["predicted"]).sum()
    comparison = compare_runs(*runs)
    assert comparison.count == len(table) == 1200
    difference = comparison.paired.differences["micro"]
    assert difference.value == pytest.approx(wrong / 1200)
    assert difference.low > 0 and comparison.paired.mcnemar["all"].first == wrong
    # the order of the rows does not matter
    edit(runs[0], lambda table: table[::-1])
    again = compare_runs(*runs).paired.differences["micro"]
    assert again.value == difference.value
    back = compare_runs(*runs[::-1]).paired.differences["micro"]
    assert back.value == pytest.approx(-difference.value)


def test_other_chips_classes_and_missing_files(runs, tmp_path):
    edit(runs[0], lambda table: table[:-3])
    words = ("1,197 and 1,200 chips", "1,197 in both")
    with pytest.raises(RequestError, match=mentions(*words)):
        compare_runs(*runs)
    change_metrics(runs[0], classes=["x", *SHIPS[1:]])
    with pytest.raises(RequestError, match=mentions("different classes")):
        compare_runs(*runs)
    (runs[0] / "evaluation/metrics.json").write_text("{}")
    with pytest.raises(DataError, match=mentions("damaged", "metrics.json")):
        compare_runs(*runs)
    (runs[0] / "evaluation/metrics.json").unlink()
    with pytest.raises(RequestError, match=mentions("is missing", "rsft evaluate")):
        compare_runs(*runs)


def test_damaged_predictions(runs):
    (runs[1] / "evaluation/predictions.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=mentions("damaged", "predictions.parquet")):
        compare_runs(*runs)


@pytest.fixture
def out(evaluated):
    return evaluated / "evaluation"


def test_two_runs_compared(out, run, root, tmp_path):
    comparison = compare_runs(out, out)
    assert comparison.count == 18 and comparison.methods == ("MetaLoRA", "MetaLoRA")
    assert comparison.paired.mcnemar["all"].p == 1
    table = pd.read_parquet(out / "predictions.parquet")
    table["predicted"] = table["class"]
    other = tmp_path / "other"
    other.mkdir()
    table.iloc[::-1].to_parquet(other / "predictions.parquet")  # in another order
    (other / "metrics.json").write_text((out / "metrics.json").read_text())
    better = compare_runs(other, out).paired
    wrong = (
        pd.read_parquet(out / "predictions.parquet").eval("predicted != `class`")
    ).sum()
    assert better.differences["micro"].value == pytest.approx(wrong / 18)
    assert (better.mcnemar["all"].first, better.mcnemar["all"].second) == (wrong, 0)


@pytest.mark.slow
def test_evaluations_of_other_chips_cannot_be_compared(out, run, root, tmp_path):
    with pytest.raises(
        RequestError, match=mentions("metrics.json", "predictions.parquet", "missing")
    ):
        compare_runs(out, tmp_path)
    evaluate(run, root, tmp_path / "train", split="train", baselines=False)
    with pytest.raises(RequestError, match=mentions("18 and 40 chips", "0 in both")):
        compare_runs(out, tmp_path / "train")
    (tmp_path / "train/predictions.parquet").write_bytes(b"no table")
    with pytest.raises(DataError, match="damaged"):
        compare_runs(out, tmp_path / "train")
