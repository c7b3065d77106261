"""Numbers of the tables of the paper as text."""

from types import SimpleNamespace

import pytest

from rsft.plugins.sweeps.paper import pages
from rsft.plugins.sweeps.paper.pages import column_values

VALUES = {
    ("SAR", "avg"): [(50.0, 40.0, 60.0), (60.0, 50.0, 70.0)],
    ("SAR", "tail"): [(40.04, 30.0, 50.06)],
    ("DOTA", "avg"): [(80.0, 70.0, 90.0)],
    ("DOTA", "tail"): [],
    ("DOTA", "distance head"): [(0.123,)],
    ("DOTA", "parameters"): [(0.1234,)],
}
MEANS = {"mean": "avg", "mean of tails": "tail"}


@pytest.mark.parametrize(
    ("column", "text"),
    [
        (("SAR", "avg"), "55.0 ± 7.1"),
        (("SAR", "tail"), "40.0 [30.0, 50.1]"),
        (("DOTA", "tail"), "-"),
        (("DOTA", "distance head"), "0.12"),
        (("DOTA", "parameters"), "0.123"),
        (("", "mean"), "67.50"),  # of the mean of each set
        (("", "mean of tails"), "-"),
    ],
)
def test_a_cell_has_the_mean_of_its_runs_and_their_spread(column, text):
    table = SimpleNamespace(means=MEANS, columns=[*VALUES, *(("", x) for x in MEANS)])
    runs = SimpleNamespace(table=table, values=lambda row, column, _: VALUES[column])
    # a table needs recipes and runs
    assert pages._cell(column_values(runs, "LoRA", column), column) == text
