"""Read Parquet files in the reader cell, which starts faster without pandas."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rsft.utils.cell.client import in_cell
from rsft.utils.cell.named import check_link

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


@in_cell
def read_parquet(path: Path, columns: list[str] | None = None) -> pa.Table:
    """Read a Parquet file, or some of its columns, and check all values.

    pandas reads texts only when they are used.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is damaged, or a text is not UTF-8.
    """
    import pyarrow.parquet as pq

    with _checked(path):
        table = pq.read_table(path, columns=columns)
        table.validate(full=True)
    return table


@contextmanager
def _checked(path: Path) -> Iterator[None]:
    """Check a file before Arrow opens it, and turn Arrow's errors into ValueError."""
    import pyarrow as pa

    check_link(path)
    try:
        yield
    except pa.ArrowException as error:
        raise ValueError(str(error)) from error


def read_parquet_parts(
    path: Path, columns: list[str] | None = None
) -> Iterator[pd.DataFrame]:
    """Yield the row groups of a Parquet file, whose index counts all rows.

    At least one is yielded. See `read_parquet`.
    """
    row = 0
    for table in _read_row_groups(path, columns):
        part: pd.DataFrame = table.replace_schema_metadata().to_pandas()
        yield part.set_axis(range(row, row + len(part)))
        row += len(part)


@in_cell
def _read_row_groups(path: Path, columns: list[str] | None) -> Iterator[pa.Table]:
    import pyarrow.parquet as pq

    with _checked(path), pq.ParquetFile(path) as file:
        for group in range(max(1, file.num_row_groups)):
            groups = [group] if file.num_row_groups else []
            table = file.read_row_groups(groups, columns)
            table.validate(full=True)
            yield table


@in_cell
def read_parquet_header(path: Path) -> tuple[int, list[str]]:
    """Return the number of rows of a Parquet file, and the names of its columns.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is damaged.
    """
    import pyarrow.parquet as pq

    with _checked(path), pq.ParquetFile(path) as file:
        return file.metadata.num_rows, list(file.schema_arrow.names)
