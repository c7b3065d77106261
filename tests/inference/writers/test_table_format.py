"""The format of a table by the suffix of its file."""

from pathlib import Path

import pytest

from rsft.errors import RequestError
from rsft.inference.writers.table_format import (
    TABLE_FORMATS,
    find_table_format,
    table_and_sidecar,
    table_suffix,
)
from tests.helpers.messages import mentions
from tests.helpers.plugins import needs_plugin


@needs_plugin("annotation_formats")
def test_the_longest_suffix_of_a_format_counts():
    assert table_suffix(Path("a.COCO.JSON")) == ".coco.json"
    assert table_suffix(Path("a.b.csv")) == ".csv"
    assert table_suffix(Path("a.other.json")) == ".json"
    assert table_suffix(Path("a")) == ""


@pytest.mark.parametrize("name", list(TABLE_FORMATS))
def test_every_format_is_found(name):
    assert find_table_format(Path(f"out.{name}")).name == name


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("a.shp", ("10 characters", "a.shp", ".gpkg")),
        ("a.docx", ("unknown format: .docx", ".csv", ".gpkg")),
        ("a", ("no suffix",)),
    ],
)
def test_other_formats_are_refused(name, words):
    with pytest.raises(RequestError, match=mentions(*words)):
        find_table_format(Path(name))


def test_table_and_sidecar_come_together(tmp_path):
    path = tmp_path / "out.csv"
    with table_and_sidecar(path, ".csvt", "types") as temporary:
        temporary.write_text("1")
        assert not path.exists()
    assert path.read_text() == "1" and path.with_suffix(".csvt").read_text() == "types"
    with (
        pytest.raises(ZeroDivisionError),
        table_and_sidecar(path, ".csvt", "new") as temporary,
    ):
        temporary.write_text("2")
        raise ZeroDivisionError
    assert path.read_text() == "1" and path.with_suffix(".csvt").read_text() == "types"
    with table_and_sidecar(path, ".csvt", None) as temporary:
        temporary.write_text("3")
    assert [file.name for file in tmp_path.iterdir()] == ["out.csv"]
