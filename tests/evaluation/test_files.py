import pandas as pd
import pytest

from rsft.errors import DataError, RequestError
from rsft.evaluation.evaluate import evaluate
from rsft.evaluation.files import compare_runs
from tests.helpers.messages import mentions


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
