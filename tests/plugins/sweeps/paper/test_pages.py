"""Headings and numbers of the tables of the paper."""

from types import SimpleNamespace

import pytest

from rsft.plugins.sweeps.paper.pages import cell_text, column_headings, table_name


@pytest.mark.parametrize(
    ("columns", "headings"),
    [
        ([("SAR", "head"), ("SAR", "tail")], ["head", "tail"]),
        ([("SAR", "avg"), ("DOTA", "avg"), ("", "mean")], ["SAR", "DOTA", "mean"]),
        ([("SAR", "avg"), ("DOTA", "tail")], ["SAR avg", "DOTA tail"]),
    ],
)
def test_a_column_is_named_by_what_differs(columns, headings):
    assert column_headings(SimpleNamespace(columns=columns)) == headings


def test_names_of_tables_and_figures():
    assert (table_name("2"), table_name("Figure-1d")) == ("Table 2", "Figure 1d")


VALUES = {
    ("SAR", "avg"): [50.0, 60.0],
    ("SAR", "tail"): [40.04],
    ("DOTA", "avg"): [80.0],
    ("DOTA", "tail"): [],
    ("DOTA", "distance head"): [0.123],
    ("DOTA", "parameters"): [0.1234],
}


@pytest.mark.parametrize(
    ("column", "text"),
    [
        (("SAR", "avg"), "55.0 ± 7.1"),
        (("SAR", "tail"), "40.0"),
        (("DOTA", "tail"), "-"),
        (("DOTA", "distance head"), "0.12"),
        (("DOTA", "parameters"), "0.123"),
        (("", "mean"), "67.50"),  # of the mean of each set
        (("", "mean of tails"), "-"),
    ],
)
def test_a_cell_has_the_mean_of_its_runs_and_their_deviation(column, text):
    table = SimpleNamespace(
        means={"mean": "avg", "mean of tails": "tail"},
        columns=[*VALUES, ("", "mean"), ("", "mean of tails")],
    )
    runs = SimpleNamespace(
        table=table, measured_values=lambda row, *column: VALUES[column]
    )
    assert cell_text(runs, "LoRA", column) == text
