"""Checks of columns name the row and the column; formulas become texts."""

import numpy as np
import pandas as pd
import pytest

from rsft.utils.tables import (
    Column,
    check_columns,
    escape_cell,
    escape_table,
    is_number,
    unescape_cell,
)
from rsft.utils.untrusted.text_tables import read_text_table
from tests.helpers.files import written


@pytest.mark.parametrize(
    ("cells", "column", "message"),
    [
        (
            ["a", None],
            Column("x"),
            "row 2, column x: found an empty cell, expected a text",
        ),
        (["a", 7], Column("x"), "row 2, column x: found 7, expected a text"),
        (
            [1, 2],
            Column("x", optional=True),
            "row 1, column x: found 1, expected a text",
        ),
        (
            ["train", "tain"],
            Column("x", choices=("train", "val")),
            "row 2, column x: found 'tain', expected one of",
        ),
        (
            [0.5, np.nan],
            Column("x", "number"),
            "row 2, column x: found an empty cell, expected a number",
        ),
        (
            [0.5, "0.5"],
            Column("x", "number", optional=True),
            "row 2, column x: found '0.5', expected a number",
        ),
        ([[1]], Column("x"), "row 1, column x: found"),
        (["a"], Column("y"), "no column y"),
        (
            [1.5, np.inf],
            Column("x", "finite number"),
            "row 2, column x: found inf, expected a finite number",
        ),
        (
            [None, -np.inf, "a"],
            Column("x", "finite number", optional=True),
            "row 2, column x: found -inf",
        ),
        (
            [b"a", 1],
            Column("x", "number"),
            "row 1, column x: found b'a', expected a number",
        ),
        ([1, 10**400], Column("x", "number"), "row 2, column x: found 1000"),
        (
            [1, 1e31],
            Column("x", "finite number"),
            r"row 2, column x: found 1e\+31, expected a finite number",
        ),
        (["a", 10**400], Column("x", "finite number"), "row 1, column x: found 'a'"),
        (
            ["a", "b", "a"],
            Column("x", unique=True),
            "row 3, column x: found 'a', expected a text that no row above has",
        ),
        (
            [["a"], [1]],
            Column("x", "list of names"),
            "row 2, column x: found .*, expected a list of names",
        ),
        (
            [["a"], "ab"],
            Column("x", "list of names"),
            "row 2, column x: found 'ab', expected a list of names",
        ),
    ],
)
def test_wrong_cells(cells, column, message):
    with pytest.raises(ValueError, match=message):
        check_columns(pd.DataFrame({"x": cells}), [column])


@pytest.mark.parametrize(
    ("cells", "column"),
    [
        (["a", None], Column("x", optional=True)),
        ([None, None], Column("x", optional=True)),
        ([], Column("x")),
        ([1, 2.5], Column("x", "number")),
        ([1e300, None], Column("x", "number", optional=True)),
        (["a", "b"], Column("x", unique=True)),
        ([1, np.nan], Column("x", "number", optional=True)),
        ([None, None], Column("x", "number", optional=True)),
        (["val"], Column("x", choices=("train", "val"))),
        (pd.Categorical(["a", "b"]), Column("x")),
        ([1, np.inf], Column("x", "number")),
        ([1, 2.5, np.nan], Column("x", "finite number", optional=True)),
        (
            [["a", "b"], np.array(["a"]), None],
            Column("x", "list of names", optional=True),
        ),
        (["a"], Column("y", required=False)),
    ],
)
def test_right_cells(cells, column):
    check_columns(pd.DataFrame({"x": cells}), [column])


FORMULAS = (
    "=1+1",
    "=cmd|' /C calc'!A0",
    "+ship",
    "-ship",
    "@SUM(A1)",
    "\tship",
    "\rship",
    "'=1+1",
    "''=1+1",
)


@pytest.mark.parametrize("text", FORMULAS)
def test_formulas_become_texts_and_come_back(text):
    assert escape_cell(text) == f"'{text}"
    assert unescape_cell(escape_cell(text)) == text


@pytest.mark.parametrize(
    "value",
    [
        "ship",
        "",
        "'ship'",
        "-1.5",
        "+3",
        "-1e-7",
        "-inf",
        -2,
        None,
        "a=b",
        "POINT (-1 2)",
    ],
)
def test_other_cells_stay(value):
    assert escape_cell(value) == value and unescape_cell(value) == value


def test_control_characters_become_texts():
    assert (
        escape_cell("a\x1b[2Jb\x9b\t\n\r\x7f.png")
        == r"a\x1b[2Jb\x9b" + "\t\n\r" + r"\x7f.png"
    )
    assert escape_cell("\x1b=1") == r"\x1b=1" and escape_cell("=\0") == r"'=\x00"


@pytest.mark.parametrize("dtype", [object, "string[pyarrow]"])
def test_tables_round_trip(tmp_path, dtype):
    # pandas writes it without quotes
    texts = [text for text in FORMULAS if "\r" not in text]
    table = pd.DataFrame(
        {
            "class": pd.Series([*texts, None], dtype=dtype),
            "=x": np.arange(9),
            "p": -np.ones(9),
        }
    )
    text = escape_table(table).to_csv(index=False)
    assert (
        text.splitlines()[0] == "class,'=x,p"
        and "\n=" not in text
        and "\n@" not in text
    )
    again = read_text_table(written(tmp_path / "a.csv", text)).cells
    assert list(again) == list(table)
    assert again["class"].tolist() == [*texts, ""]
    assert again["=x"].tolist() == [str(number) for number in range(9)]
    assert set(again["p"].astype(float)) == {-1}


def test_empty_table_and_repeated_names():
    assert escape_table(pd.DataFrame()).shape == (0, 0)
    table = pd.DataFrame([["=a", "=b", 1]], columns=["x", "x", "y"])
    assert escape_table(table).to_numpy().tolist() == [["'=a", "'=b", 1]]
    assert list(escape_table(table.iloc[:0])) == ["x", "x", "y"]


def test_numbers():
    assert all(map(is_number, ("1", "-1.5", "+3", "1e-7", "inf", "nan")))
    assert not any(map(is_number, ("", "ship", "=1", "0x1", "1 2")))
