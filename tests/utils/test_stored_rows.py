"""Rows in a file are those that were written."""

import numpy as np
import pytest

from rsft.utils.stored_rows import StoredRows, blocks


@pytest.fixture
def rows():
    return np.random.default_rng(0).normal(size=(11, 3)).astype(np.float32)


def test_slices_and_indices(rows, tmp_path):
    folder = tmp_path / "new"
    stored = StoredRows(folder, np.split(rows, [2, 2, 9]))
    assert stored.shape == rows.shape and len(stored) == 11
    for part in (slice(None), slice(3, 7), slice(9, 99), slice(5, 5), slice(-2, None)):
        np.testing.assert_array_equal(stored[part], rows[part])
    for numbers in ([10, 0, 4, 4, 3], [], [7]):
        indices = np.array(numbers, np.int64)
        np.testing.assert_array_equal(stored[indices], rows[indices])
    assert not list(folder.iterdir())


def test_other_numbers_become_float32(tmp_path):
    stored = StoredRows(tmp_path, iter([np.arange(6).reshape(2, 3).T]))
    assert stored[:].dtype == np.float32 and stored[:].tolist() == [
        [0, 3],
        [1, 4],
        [2, 5],
    ]


def test_blocks_cover_all_rows():
    assert [*blocks(7, 3)] == [slice(0, 3), slice(3, 6), slice(6, 7)]
    assert [*blocks(0)] == []
