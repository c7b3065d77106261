"""What a job rejected, and tables without rows."""

from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from rsft.errors import DataError
from rsft.inference.predict.rejections import (
    describe_empty_result,
    locate_rejection,
    write_rejected_list,
)
from rsft.scenes.query import CfarOptions, Query
from tests.helpers.messages import mentions

AT = Query(at=Path("ships.csv"))


def describe(query=AT, chips=(), outside=0, rejected=(), may_be_outside=False):
    position = SimpleNamespace(outside=[None] * outside, notes=["read as row, col"])
    plan = SimpleNamespace(sources=list(chips), positions=[position])
    return describe_empty_result(
        plan, query, list(rejected), Path("out.csv.rejected.csv"), may_be_outside
    )


@pytest.mark.parametrize(
    ("query", "options"),
    [
        (Query(detect=CfarOptions()), {}),
        (Query(grid=64), {}),
        (AT, {}),
        (AT, {"outside": 2, "may_be_outside": True}),
    ],
)
def test_an_empty_table_is_a_result(query, options):
    assert "no rows" in describe(query, **options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"chips": [range(3)], "rejected": [("a.png", 0, "broken")]},
            ("none of the 3 chips", "a.png: broken", "rejected.csv"),
        ),
        ({"rejected": [("l.csv", 7, "no row")]}, ("the 1 chips", "l.csv:7: no row")),
        ({"outside": 4}, ("none of the 4 positions", "ships.csv", "read as row, col")),
    ],
)
def test_rejected_chips_and_positions_outside_are_errors(options, words):
    with pytest.raises(DataError, match=mentions(*words)):
        describe(**options)


def test_the_list_is_a_table_without_formulas(tmp_path):
    path = tmp_path / "rejected.csv"
    write_rejected_list(path, [("=a.png", 3, "wrong, size")])
    table = pd.read_csv(path)
    assert list(table) == ["file", "line", "reason"]
    assert table["file"][0] != "=a.png" and "=a.png" in table["file"][0]
    assert (table["line"][0], table["reason"][0]) == (3, "wrong, size")
    write_rejected_list(path, [])
    assert not path.exists()
    write_rejected_list(path, [])


def test_a_line_stands_behind_its_file():
    assert locate_rejection(("a.csv", 2, "why")) == (Path("a.csv:2"), "why")
    assert locate_rejection(("a.png", 0, "why")) == (Path("a.png"), "why")
