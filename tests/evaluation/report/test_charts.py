"""Charts of the report as SVG."""

import re

import pandas as pd
import pytest

from rsft.evaluation.report.charts import coverage_plot, reliability_bins
from rsft.evaluation.schema import CalibrationReport, CoverageLevel
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


@pytest.mark.parametrize(("low", "first"), [(0.78, "50"), (0.4, "0")])
def test_the_axis_of_coverage_contains_all_intervals(low, first):
    coverage = {
        "value": 0.85,
        "low": low,
        "high": 0.9,
        "size": 1.5,
        "single": 0.5,
        "chips": 30,
    }
    content = {
        "target": 0.8,
        "groups": {"all": coverage},
        "by_class": [0.85],
        "classes_without_coverage": [],
    }
    report = CalibrationReport.model_construct(
        coverage=[CoverageLevel.model_validate(content)]
    )
    numbers = re.findall(r">(\d+)</text>", coverage_plot(report))
    assert (numbers[0], numbers[-1], len(numbers)) == (first, "100", 6)
