"""Rows of path and label."""

from pathlib import Path

import pytest

from rsft.data.datasets.formats.label_rows import (
    describe_row_fault,
    exists,
    read_list_rows,
    sort_class_names,
)
from rsft.errors import DataError


def test_rows_are_split_at_the_last_space_or_tab(tmp_path):
    path = tmp_path / "train.txt"
    path.write_text("a b/1.png 0\n\n./c\\2.png\tbig ship\nword\n")
    assert list(read_list_rows(path)) == [
        (1, "a b/1.png", "0"),
        (3, "c/2.png", "big ship"),
        (4, "", "word"),
    ]
    path.write_bytes(b"\xff")
    with pytest.raises(DataError, match="UTF-8"):
        list(read_list_rows(path))


@pytest.mark.parametrize(
    ("path", "label", "fault"),
    [
        ("a.png", "ship", ""),
        ("", "ship", "path label"),
        ("../a.png", "ship", "leaves the folder"),
        ("a.png", "-1", "0 or more"),
        ("a.png", "..", "cannot name a class"),
        ("a.png", "a/b", "cannot name a class"),
        ("a.png", "x" * 250, ""),
        ("a.png", "x" * 251, "250 bytes"),
        ("a.png", "\udcff", "not UTF-8"),
    ],
)
def test_faults(path, label, fault):
    text = describe_row_fault(path, label)
    assert fault in text and bool(fault) == bool(text)


def test_numbers_are_sorted_by_value():
    assert sort_class_names({"10", "9"}) == ["9", "10"]
    assert sort_class_names({"b", "10"}) == ["10", "b"]
    assert not exists(Path("x" * 5000))
