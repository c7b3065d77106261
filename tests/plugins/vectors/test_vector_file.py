"""Tables of vectors of any program are read, or the message says what is missing."""

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
from shapely.geometry import Point

from rsft.errors import DataError, RequestError
from rsft.plugins.vectors.vector_file import check_degrees, read_vector_file

VECTORS = np.arange(6, dtype="float32").reshape(3, 2)
NAMES = pd.DataFrame({"name": ["a", "b", "c"]})


def write(path, table):
    table.to_parquet(path)
    return path


@pytest.mark.parametrize(
    "columns",
    [
        {"vector": list(VECTORS)},
        {"embedding": [row.tolist() for row in VECTORS]},
        {"A01": VECTORS[:, 1], "A00": VECTORS[:, 0], "year2": [1, 2, 3]},
    ],
)
def test_lists_or_numbered_columns(columns, tmp_path):
    file = read_vector_file(write(tmp_path / "v.parquet", NAMES.assign(**columns)))
    assert file.names == ["a", "b", "c"] and file.band == "vector_2"
    assert np.array_equal(file.vectors, VECTORS)


def test_a_chip_without_a_vector_is_named(tmp_path):
    table = NAMES.assign(vector=[[0.0, 1.0], None, [float("nan"), 1.0]])
    file = read_vector_file(write(tmp_path / "v.parquet", table))
    assert file.image(0).shape == (8, 8, 1)
    for row, name in ((1, "b"), (2, "c")):
        with pytest.raises(DataError, match=f"the chip {name} has no vector"):
            file.image(row)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (NAMES, "no column contains vectors"),
        (NAMES.assign(vector=[[1.0], [1.0, 2.0], [1.0]]), "of 2 lengths"),
        (NAMES.assign(vector=[["x"]] * 3), "no numbers"),
        (pd.DataFrame({"vector": list(VECTORS)}), "no column names the chips"),
    ],
)
def test_other_tables_are_refused(table, message, tmp_path):
    with pytest.raises(RequestError, match=message):
        read_vector_file(write(tmp_path / "v.parquet", table))


def test_coordinates_are_degrees(tmp_path):
    points = [Point(8, 50), Point(400_000, 5_000_000), None]
    table = gpd.GeoDataFrame(NAMES.assign(vector=list(VECTORS)), geometry=points)
    file = read_vector_file(write(tmp_path / "v.parquet", table))
    shapes = file.table["geometry"]
    assert check_degrees(shapes[0], file) == points[0]
    assert check_degrees(shapes[2], file) is None
    with pytest.raises(DataError, match="not in degrees"):
        check_degrees(shapes[1], file)
