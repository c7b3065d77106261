"""Separators, lines and roles of columns of text tables."""

import pytest

from rsft.errors import RequestError
from rsft.utils.untrusted.text_tables import (
    SYNONYMS,
    find_columns,
    find_separator,
    read_text_table,
)
from tests.helpers.files import written
from tests.helpers.messages import mentions


@pytest.mark.parametrize(
    ("header", "separator"),
    [
        ("lon,lat,name", ","),
        ("row;col;size (a,b,c,d)", ";"),
        ("path\tclass\tverdict", "\t"),
        ("mmsi|lat|lon", "|"),
        ("a,b;c", ","),
        ("", ","),
    ],
)
def test_separators(header, separator):
    assert find_separator(header) == separator


def test_roles_have_their_own_names():
    names = [name for known in SYNONYMS.values() for name in known]
    assert len(names) == len(set(names))
    assert all(known[0] == role for role, known in SYNONYMS.items())


def test_the_first_column_and_the_first_name_count():
    names = ["Ship Type", "# Latitude", "latitude", "label", "LON_DEG"]
    assert find_columns(names) == {"lon": 4, "lat": 1, "class": 3}
    assert find_columns(names, {"kind": ["shiptype"]}) == {"kind": 0}


def test_lines_cells_and_formulas(tmp_path):
    text = '\ufeffpath;class;\n"a;b";"\'=1+1"\n\nc; d ;;\n'
    table = read_text_table(written(tmp_path / "a.csv", text))
    assert table.separator == ";" and list(table.cells) == ["path", "class", ""]
    assert table.cells.index.tolist() == [2, 4]
    assert table.cells.to_numpy().tolist() == [["a;b", "=1+1", ""], ["c", "d ", ""]]


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (b"path,class\na,b,c\n", ["a.csv:2", "3 fields", "header has 2"]),
        (b'path,class\n"a,b\n', ["a.csv:2", "cannot be read"]),
        (b"path,class\n\xff,b\n", ["a.csv", "UTF-8"]),
        (b"\n\n", ["a.csv", "cannot be read", "empty"]),
    ],
)
def test_damaged(tmp_path, content, parts):
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    with pytest.raises(RequestError, match=mentions(*parts)):
        read_text_table(path)
