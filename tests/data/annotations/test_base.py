"""The common table of annotations, and how a format is found."""

from pathlib import Path

import pandas as pd
import pytest
import shapely

from rsft.data.annotations.base import (
    annotation_table,
    check_vessels,
    describe_counts,
    parse_columns,
    read_annotations,
)
from rsft.errors import RequestError
from tests.helpers.messages import mentions

POINT = shapely.Point(1, 2)


@pytest.mark.parametrize(
    ("ids", "identities", "index"),
    [
        ([7, 3], [7, 3], [7, 3]),
        ([7, 7], [7, 7], [1, 2]),
        ([-1, 3], [-1, 3], [1, 2]),
        ([4, None], [4, pd.NA], [1, 2]),
        (["a", 3], ["a", "3"], [1, 2]),
        ([True, 3], ["True", "3"], [1, 2]),
        ([2**70, 3], [str(2**70), "3"], [1, 2]),
    ],
)
def test_unique_whole_numbers_are_the_index(ids, identities, index):
    table = annotation_table([POINT, None], ids)
    assert table.index.tolist() == index
    assert all(
        (a is pd.NA and pd.isna(b)) or a == b
        for a, b in zip(identities, table["at"], strict=True)
    )
    assert table["_fault"].tolist() == ["", ""] and table["_score"].isna().all()
    assert table.geometry.tolist() == [POINT, None]


def test_attributes_do_not_hide_the_columns_of_the_table():
    columns = [pd.Series([1], name="AT"), pd.Series([2], name="geometry")]
    table = annotation_table([POINT], [5], columns, scores=[0.5], images=["a.png"])
    assert table["at_AT"].tolist() == [1] and table["at_geometry"].tolist() == [2]
    assert (table["_score"][5], table["_image"][5]) == (0.5, "a.png")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("missing.csv", None, ("no such file",)),
        ("empty.csv", "", ("empty: 0 bytes",)),
        ("a.json", "{", ("not a JSON file", "export it again")),
        ("a.xml", "<a>", ("not a XML file",)),
    ],
)
def test_files_that_cannot_be_read(tmp_path, name, content, words):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(RequestError, match=mentions(name, *words)):
        read_annotations(tmp_path / name)


def test_layers_are_for_files_that_have_some(tmp_path):
    (tmp_path / "a.csv").write_text("row,col\n1,2\n")
    with pytest.raises(RequestError, match=mentions("no layers", "--layer")):
        read_annotations(tmp_path / "a.csv", layer="x")
    assert len(read_annotations(tmp_path / "a.csv").table) == 1


def test_columns_by_role():
    assert parse_columns(" lon = X ,, lat=a b") == {"lon": "X", "lat": "a b"}
    assert parse_columns(None) == {} == parse_columns("")


@pytest.mark.parametrize("text", ["lon", "lon=", "=X", "lon=X,lon=Y"])
def test_what_does_not_name_columns(text):
    with pytest.raises(RequestError, match=mentions("--columns", "ROLE=COLUMN")):
        parse_columns(text)


@pytest.mark.parametrize(
    ("columns", "is_ais"),
    [
        ({"MMSI": [1, 2]}, False),
        ({"mmsi": [1, 1]}, True),
        ({"mmsi": [0, 0, None]}, False),
        ({"mmsi": [1, 2], "time_utc": ["a", "b"]}, True),
        ({"mmsi": [1, 2], "time_utc": ["a", "a"]}, False),
        ({"ship": [1, 1]}, False),
    ],
)
def test_messages_of_ais_are_no_objects(columns, is_ais):
    table = pd.DataFrame(columns)
    if not is_ais:
        check_vessels(Path("a.csv"), table)
        return
    with pytest.raises(RequestError, match=mentions("AIS messages", "a.csv")):
        check_vessels(Path("a.csv"), table)


def test_only_what_occurs_is_counted():
    counts = {"lines": 1200, "points": 0}
    assert describe_counts(Path("x/a.csv"), "left out", counts) == [
        "a.csv: left out: 1,200 lines"
    ]
    assert describe_counts(Path("a.csv"), "left out", {"points": 0}) == []
