"""Charts of the report as SVG."""

import re

import pandas as pd
import pytest

from rsft.evaluation.report.charts import coverage_plot, phase_bar, reliability_bins
from rsft.evaluation.schema import CalibrationReport, CoverageLevel
from rsft.metrics.accuracy import expected_calibration_error
from tests.helpers.fake_run import SHIPS, write_fake_run
from tests.helpers.report_page import page_of


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


@pytest.mark.slow
def test_costs(run):
    page = page_of(run)
    assert (
        "74,304 of 2,861,000 (2.6%)" in page.sections["cost"]
        and "912.0 MB" in page.sections["cost"]
    )
    assert "inner loop: 61%" in page.sections["cost"]
    table = pd.read_csv(run / "metrics.csv").drop(
        columns=["data_s", "inner_s", "outer_s", "memory_mb", "gpu_mb"]
    )
    assert phase_bar(table) is None
    table.to_csv(run / "metrics.csv", index=False)
    assert "did not measure" in page_of(run).sections["cost"]
