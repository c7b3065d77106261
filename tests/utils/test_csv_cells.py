import io

import numpy as np
import pandas as pd
import pytest

from rsft.utils.tables import (
    escape_cell,
    escape_table,
    is_number,
    unescape_cell,
    unescape_table,
)

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
def test_tables_round_trip(dtype):
    texts = [
        text for text in FORMULAS if "\r" not in text
    ]  # pandas writes it without quotes
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
    again = unescape_table(
        pd.read_csv(io.StringIO(text, newline=""), dtype={"class": str})
    )
    assert list(again) == list(table)
    assert again["class"][:8].tolist() == texts and pd.isna(again["class"][8])
    assert again["=x"].tolist() == list(range(9)) and (again["p"] == -1).all()


def test_empty_table_and_repeated_names():
    assert escape_table(pd.DataFrame()).shape == (0, 0)
    table = pd.DataFrame([["=a", "=b", 1]], columns=["x", "x", "y"])
    assert escape_table(table).to_numpy().tolist() == [["'=a", "'=b", 1]]
    assert list(escape_table(table.iloc[:0])) == ["x", "x", "y"]


def test_numbers():
    assert all(map(is_number, ("1", "-1.5", "+3", "1e-7", "inf", "nan")))
    assert not any(map(is_number, ("", "ship", "=1", "0x1", "1 2")))
