"""Parquet files are read whole or in parts."""

import pandas as pd
import pytest

from rsft.utils.parquet_files import read_parquet, read_parquet_parts
from rsft.utils.tables import Column, check_columns


def test_parts_of_a_parquet_file(tmp_path):
    table = pd.DataFrame({"x": range(100), "y": ["a", None] * 50})
    table.to_parquet(tmp_path / "t.parquet", row_group_size=3)
    parts = list(read_parquet_parts(tmp_path / "t.parquet"))
    assert [part.index[0] for part in parts] == [*range(0, 100, 3)]
    pd.testing.assert_frame_equal(
        pd.concat(parts), read_parquet(tmp_path / "t.parquet").to_pandas()
    )
    with pytest.raises(ValueError, match=r"row 4, column y: found an empty cell"):
        check_columns(parts[1], [Column("y")])
    table[:0].to_parquet(tmp_path / "t.parquet")
    assert [len(part) for part in read_parquet_parts(tmp_path / "t.parquet")] == [0]
