"""Values of a product that are stated at some lines and pixels of its image."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from rsft.types import Floats, Indices


@dataclass(frozen=True, eq=False)
class LineTable:
    """Values between which an image is interpolated bilinearly, in line and pixel.

    Beyond the first and last line or pixel, the value there is used.

    Attributes:
        lines: (L,) line numbers, increasing.
        pixels: for each line, (P,) pixel numbers, increasing.
        values: for each line, (P,) values.

    Raises:
        ValueError: lines or pixels do not increase, or the numbers of entries differ.

    Example:
        >>> cols = [np.array([0.0, 4.0])] * 2
        >>> table = LineTable(np.array([0.0, 10.0]), cols, cols)
        >>> table.window(5, 6, 1, 4).tolist()
        [[1.0, 2.0, 3.0]]
    """

    lines: Floats
    pixels: Sequence[Floats]
    values: Sequence[Floats]

    def __post_init__(self) -> None:
        if not len(self.lines) == len(self.pixels) == len(self.values) > 0:
            raise ValueError("the table has no lines")
        for numbers in (self.lines, *self.pixels):
            if (np.diff(numbers) <= 0).any():
                raise ValueError("the lines or pixels of the table do not increase")
        for pixels, values in zip(self.pixels, self.values, strict=True):
            if not len(pixels) == len(values) > 0 or not np.isfinite(values).all():
                raise ValueError(
                    "the table has lines without values, or values that are not finite"
                )

    @classmethod
    def from_points(cls, points: Iterable[tuple[object, float, float, float]]) -> Self:
        """Make a table of the points of a grid.

        Args:
            points: key of their line, row, column and value. A line has the mean row.

        Raises:
            ValueError: see the class.
        """
        lines = defaultdict(list)
        for key, row, col, value in points:
            lines[key].append((col, row, value))
        tables = [np.array(sorted(line)).T for line in lines.values()]
        tables.sort(key=lambda table: table[1, 0])
        rows = np.array([table[1].mean() for table in tables])
        return cls(rows, [table[0] for table in tables], [table[2] for table in tables])

    @classmethod
    def along_range(cls, cols: Floats, values: Floats) -> Self:
        """Return a table whose values (P,) only depend on the column (P,)."""
        return cls(np.zeros(1), [cols], [values])

    @classmethod
    def constant(cls, value: float) -> Self:
        """Return a table with one value for the whole image."""
        return cls.along_range(np.zeros(1), np.array([value]))

    def window(
        self, top: int, bottom: int, left: int, right: int, dtype: Any = np.float64
    ) -> NDArray[Any]:
        """Interpolate the table at all pixels of a window.

        Args:
            top: first row.
            bottom: row behind the last one.
            left: first column.
            right: column behind the last one.
            dtype: float64 or float32.

        Returns:
            Values (bottom - top, right - left).
        """
        cols = np.arange(left, right, dtype=np.float64)
        lower, weights = self._rows(np.arange(top, bottom, dtype=np.float64))
        window = np.empty((bottom - top, right - left), dtype)
        mix = np.column_stack([1 - weights, weights]).astype(dtype)
        for index in np.unique(lower):
            start, stop = np.searchsorted(lower, (index, index + 1))
            pair = np.stack(self._lines_around(index, cols)).astype(dtype)
            np.matmul(mix[start:stop], pair, out=window[start:stop])
        return window

    def __call__(self, rows: Floats, cols: Floats) -> Floats:
        """Interpolate at pixels: rows (N,) and columns (N,) -> values (N,)."""
        lower, weights = self._rows(rows)
        values = np.empty(len(rows))
        for index in np.unique(lower):
            chosen = lower == index
            first, second = self._lines_around(index, cols[chosen])
            values[chosen] = first + weights[chosen] * (second - first)
        return values

    def _rows(self, rows: Floats) -> tuple[Indices, Floats]:
        """Return the index of the line before each row, and the weight of the next."""
        last = len(self.lines) - 1
        before = np.searchsorted(self.lines, rows, side="right") - 1
        lower = np.clip(before, 0, max(0, last - 1))
        upper = np.minimum(lower + 1, last)
        distance = np.maximum(self.lines[upper] - self.lines[lower], 1)
        return lower, np.clip((rows - self.lines[lower]) / distance, 0, 1)

    def _lines_around(self, index: int, cols: Floats) -> tuple[Floats, Floats]:
        """Return the values of a line and of the next one at columns (N,)."""
        upper = min(index + 1, len(self.lines) - 1)
        return self._line(index, cols), self._line(upper, cols)

    def _line(self, index: int, cols: Floats) -> Floats:
        return np.interp(cols, self.pixels[index], self.values[index])
