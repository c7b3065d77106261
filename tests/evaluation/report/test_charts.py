"""Charts of the report as SVG."""

import pandas as pd
import pytest

from rsft.evaluation.report.charts import reliability_bins
from rsft.metrics.accuracy import expected_calibration_error
from tests.helpers.fake_run import SHIPS, write_fake_run


@pytest.fixture
def run(tmp_path):
    return write_fake_run(tmp_path, SHIPS)


def predictions(run):
    return pd.read_parquet(run / "evaluation/predictions.parquet")


def test_the_bins_are_those_of_the_calibration_error(run):
    table = predictions(run)
    bins = reliability_bins(table, SHIPS)
    gap = (bins["hits"] - bins["confidence"] * bins["chips"]).abs().sum() / len(table)
    labels = table["class"].map(SHIPS.index).to_numpy()
    assert gap == pytest.approx(
        expected_calibration_error(table[[f"p_{n}" for n in SHIPS]].to_numpy(), labels)
    )
    assert bins["chips"].sum() == len(table) == 1200
