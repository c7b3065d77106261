"""Tables of predictions are read as they were written, or as another program saved
them."""

import numpy as np
import pandas as pd
import pytest

from rsft.errors import RequestError
from rsft.inference.prediction_table import number_cells, read_table_file, text_cells
from tests.helpers.prediction_tables import SQUARE, write


@pytest.mark.parametrize("name", ["a.gpkg", "a.geojson", "a.parquet", "a.csv"])
def test_every_format_has_shapes_and_numbers_of_rows(tmp_path, name):
    frame, metadata = read_table_file(write(tmp_path / name, SQUARE), "")
    assert list(frame["_line"]) == [2 if name == "a.csv" else 1]
    assert frame["geometry"][0].equals(SQUARE)
    assert isinstance(metadata.get("classes"), list) == (name != "a.csv")


@pytest.mark.parametrize(
    ("name", "message"), [("a.csv", "no such"), ("b.txt", "format")]
)
def test_another_file_is_an_error(tmp_path, name, message):
    (tmp_path / "b.txt").touch()
    with pytest.raises(RequestError, match=message) as caught:
        read_table_file(tmp_path / name, "give a table")
    assert "give a table" in caught.value.hint


def test_cells_that_other_programs_saved():
    frame = pd.DataFrame({"a": [" x ", None, 3.0, 2.5], "b": ["1,5", "", "x", "2"]})
    assert text_cells(frame, "a") == ["x", "", "3", "2.5"]
    np.testing.assert_equal(number_cells(frame, "b"), [1.5, np.nan, np.nan, 2.0])
    assert text_cells(frame, "c") == [""] * 4
    assert np.isnan(number_cells(frame, "c")).all()
