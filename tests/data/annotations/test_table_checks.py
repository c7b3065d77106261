"""Cells of tables that look like numbers and boxes."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from rsft.data.annotations.base import read_annotations
from rsft.data.annotations.table_checks import check_thousands, refuse_most
from rsft.errors import RequestError
from tests.helpers.files import written
from tests.helpers.messages import mentions


@pytest.mark.parametrize(
    ("text", "bounds"),
    [
        ("row;col\n1.2340;2.3450\n", [(2.345, 1.234, 2.345, 1.234)]),
        ("row;col\n1.234;2.5\n", [(2.5, 1.234, 2.5, 1.234)]),
        ("row;col\n0.123;2.345\n", [(2.345, 0.123, 2.345, 0.123)]),
        ("lon;lat\n12.345;55.678\n", [(12.345, 55.678, 12.345, 55.678)]),
        ("row,col\n1.234,2.345\n", [(2.345, 1.234, 2.345, 1.234)]),
        ("west,south,east,north\n179,1,-179,2\n", [(-179, 1, 179, 2)]),
        ("left,top,right,bottom\n1,9,5,2\n", [(1, 2, 5, 9)]),
        ("xmin,ymin,width,height\n1,2,10,20\n", [(1, 2, 11, 22)]),
        ("cx,cy,w,h\n5,6,4,2\n", [(3, 5, 7, 7)]),
        ("cx,cy\n5,6\n", [(5, 6, 5, 6)]),
        ("easting,northing,width\n5,6,4\n", [(5, 6, 5, 6)]),
        ("lon,lat,width,height\n5,6,4,2\n", [(5, 6, 5, 6)]),
    ],
)
def test_tables_that_are_read(tmp_path, text, bounds):
    table = read_annotations(written(tmp_path / "a.csv", text)).table
    assert [shape.bounds for shape in table.geometry] == bounds


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("row;col\n1.234;850\n", ["thousands", "1.234"]),
        ("row\tcol\n1.234\t2.345.678\n", ["thousands", "2.345.678"]),
        ("lat,lon\n55N,12E\n55.1,12.1\n56N,12E\n", ["2 of 3", "line 2: '12E', '55N'"]),
        ("xmin,ymin,xmax,ymax\n9,9,1,1\n8,8,1,1\n", ["2 of 2", "row 3: 8, 8, 1, 1"]),
        ("xmin,ymin,width,height\n9,9,-1,5\n", ["1 of 1", "width"]),
        ("row,col,w,h\n1,2,3,4\n", ["corner", "center", "col=col,row=row"]),
        ("row,Row,col\n1,2,3\n", ["several columns", "row"]),
        ("row,col,imo\n1,2,9.74E+06\n", ["imo", "9.74E+06"]),
    ],
)
def test_tables_that_are_refused(tmp_path, text, parts):
    path = written(tmp_path / "a.csv", text)
    with pytest.raises(RequestError, match=mentions("a.csv", *parts)):
        read_annotations(path)


def test_a_few_wrong_rows_have_a_fault(tmp_path):
    rows = ["1,1,5,5", "9,9,1,1", "n/a,NaN,,none", "n/a,NaN,,none", "n/a,NaN,,none"]
    text = "\n".join(["xmin,ymin,xmax,ymax", *rows])
    table = read_annotations(written(tmp_path / "a.csv", text)).table
    assert table["_fault"].tolist() == ["", "the box ends before it begins", "", "", ""]
    assert table.geometry.isna().tolist() == [False, True, True, True, True]


@pytest.mark.parametrize(
    ("columns", "bounds"),
    [
        ({"xmin": "x", "ymin": "y"}, (10, 20, 14, 22)),
        ({"xcenter": "x", "ycenter": "y"}, (8, 19, 12, 21)),
        ({"x": "x", "y": "y"}, (10, 20, 10, 20)),
    ],
)
def test_the_caller_says_what_x_and_y_are(tmp_path, columns, bounds):
    path = written(tmp_path / "a.csv", "x,y,w,h\n10,20,4,2\n")
    table = read_annotations(path, columns=columns).table
    assert table.geometry[2].bounds == bounds


def test_a_file_is_refused_if_most_rows_are_wrong():
    def check(*is_wrong):
        refuse_most(Path("a.csv"), is_wrong, "are odd", lambda row: f"row {row}", "no")

    check(True, False)
    check()
    with pytest.raises(RequestError, match="3 of 5 are odd: row 0; row 2; row 3"):
        check(True, False, True, True, False)
    with pytest.raises(RequestError) as caught:
        check(*[True] * 1000)
    assert "1,000 of 1,000 are odd: row 0; row 1; row 2" in caught.value.message
    assert "row 3" not in caught.value.message


@pytest.mark.parametrize(
    ("texts", "is_refused"),
    [
        (["1.234", "12.345"], True),
        (["1.234", "12.34"], False),
        (["1.234", "5"], True),
        (["0.234", "12.345"], False),
        (["1234", "5"], False),
    ],
)
def test_points_that_may_separate_thousands(texts, is_refused):
    cells = pd.DataFrame({"x": texts})
    if not is_refused:
        check_thousands(Path("a.csv"), "x", cells)
        return
    with pytest.raises(RequestError, match="may separate thousands"):
        check_thousands(Path("a.csv"), "x", cells)
