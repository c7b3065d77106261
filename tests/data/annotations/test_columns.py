"""Types and names of columns of attributes."""

import pandas as pd
import pytest

from rsft.data.annotations.columns import (
    concat_attributes,
    text_column,
    typed_column,
    unique_names,
)


@pytest.mark.parametrize(
    ("texts", "values", "dtype"),
    [
        (["1", "-20", None, " 3 "], [1, -20, None, 3], "int64[pyarrow]"),
        (["1.5", "2", "1e+3", ".5", "NaN"], [1.5, 2, 1000, 0.5, None], "double"),
        (["True", "false", "n/a"], [True, False, None], "bool"),
        (["007", "1"], ["007", "1"], "string"),
        (["9" * 19], ["9" * 19], "string"),
        (["1", "x"], ["1", "x"], "string"),
        (["", None], [None, None], "string"),
        (["-", "none"], ["-", "none"], "string"),
    ],
)
def test_texts_get_the_type_that_all_have(texts, values, dtype):
    column = text_column("a", texts)
    assert column.name == "a" and dtype in str(column.dtype)
    assert column.astype(object).where(column.notna(), None).tolist() == values


def test_a_decimal_comma():
    assert text_column("a", ["1,5", "2"], ",").tolist() == [1.5, 2]
    assert text_column("a", ["1,5", "2"]).tolist() == ["1,5", "2"]


def test_lists_objects_and_mixed_values_become_text():
    assert typed_column("a", [[1, "ü"], None]).tolist()[0] == '[1, "ü"]'
    assert typed_column("a", [{"b": 1}, {"b": None}]).tolist() == [
        '{"b": 1}',
        '{"b": null}',
    ]
    assert typed_column("a", [1, "x"]).tolist() == ["1", "x"]
    assert typed_column("a", [2**80, 1]).tolist() == [str(2**80), "1"]
    assert str(typed_column("a", [None]).dtype) == "string[pyarrow]"


def test_names_are_unique_whatever_their_case():
    assert unique_names(["Class", "class", "row", "x"], ["ROW"]) == [
        "Class",
        "at_class",
        "at_row",
        "x",
    ]
    assert unique_names(["a", "a", "a"], []) == ["a", "at_a", "at_at_a"]


def test_a_column_of_several_types_becomes_text():
    first = pd.DataFrame({"a": typed_column("a", [1, None]), "b": [1, 2]})
    second = pd.DataFrame({"a": typed_column("a", ["x"]), "c": [3]})
    table = concat_attributes([first, second])
    assert table["a"].fillna("-").tolist() == ["1", "-", "x"]
    assert table["b"].tolist()[:2] == [1, 2] and table["c"].tolist()[2] == 3
