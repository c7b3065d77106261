"""Tables of lines are interpolated."""

import numpy as np
import pytest

from rsft.data.imagery.products.line_table import LineTable


def make(lines, pixels, values):
    return LineTable(
        np.array(lines, float),
        [np.array(row, float) for row in pixels],
        [np.array(v) for v in values],
    )


def test_lines_with_different_pixels():
    table = make([0, 10], [[0, 4], [0, 2, 4]], [[0.0, 4.0], [10.0, 20.0, 30.0]])
    assert table.window(5, 6, 0, 5).tolist() == [[5.0, 8.0, 11.0, 14.0, 17.0]]
    longer = make([0, 10, 20], [[0, 4]] * 3, [[0.0, 4.0], [8.0, 12.0], [40.0, 44.0]])
    assert longer.window(5, 16, 0, 1)[:, 0].tolist()[::5] == [4.0, 8.0, 24.0]
    assert table(np.array([5.0, 2.5]), np.array([4.0, 0.0])).tolist() == [17.0, 2.5]


def test_values_are_constant_beyond_the_table():
    table = make([2, 4], [[1, 3]] * 2, [[1.0, 3.0], [5.0, 7.0]])
    window = table.window(0, 8, 0, 6)
    assert window[0].tolist() == window[2].tolist() == [1.0, 1.0, 2.0, 3.0, 3.0, 3.0]
    assert window[7].tolist() == window[4].tolist() == [5.0, 5.0, 6.0, 7.0, 7.0, 7.0]
    assert window[3, 1] == 3


def test_one_line():
    assert (
        make([0], [[0, 9]], [[1.0, 10.0]]).window(3, 5, 0, 2).tolist()
        == [[1.0, 2.0]] * 2
    )


def test_a_window_is_part_of_the_whole():
    rng = np.random.default_rng(0)
    lines = [0, 7, 13, 40]
    pixels = np.unique(rng.integers(0, 60, 12))
    table = make(lines, [pixels] * 4, rng.random((4, len(pixels))))
    whole = table.window(0, 50, 0, 64)
    np.testing.assert_allclose(
        table.window(5, 30, 11, 40), whole[5:30, 11:40], rtol=1e-12
    )
    single = table.window(5, 30, 11, 40, np.float32)
    assert (
        single.dtype == np.float32
        and np.abs(single / whole[5:30, 11:40] - 1).max() < 1e-6
    )
    rows, cols = np.mgrid[0:50, 0:64].reshape(2, -1).astype(float)
    np.testing.assert_allclose(table(rows, cols), whole.ravel(), rtol=1e-12)


@pytest.mark.parametrize(
    ("lines", "pixels", "values", "message"),
    [([], [], [], "no lines"), ([3, 3], [[0, 1]] * 2, [[1.0, 1.0]] * 2, "do not increase"),
     ([0], [[1, 0]], [[1.0, 1.0]], "do not increase"), ([0], [[0, 1]], [[1.0]], "without values"),
     ([0], [[0, 1]], [[1.0, np.nan]], "not finite")],
)  # fmt: skip
def test_damaged_tables(lines, pixels, values, message):
    with pytest.raises(ValueError, match=message):
        make(lines, pixels, values)
