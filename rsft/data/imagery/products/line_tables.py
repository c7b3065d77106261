"""Tables over an image whose rows of values stand at some lines, each with its own pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

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
        >>> table = LineTable(np.array([0.0, 10.0]), [np.array([0.0, 4.0])] * 2, [np.array([0.0, 4.0])] * 2)
        >>> table.window(5, 6, 1, 4).tolist()
        [[1.0, 2.0, 3.0]]
    """

    lines: Floats
    pixels: Sequence[Floats]
    values: Sequence[Floats]

    def __post_init__(self) -> None:
        if not len(self.lines) == len(self.pixels) == len(self.values) > 0:
            raise ValueError("the table has no lines")
        if (np.diff(self.lines) <= 0).any() or any((np.diff(pixels) <= 0).any() for pixels in self.pixels):
            raise ValueError("the lines or pixels of the table do not increase")
        for pixels, values in zip(self.pixels, self.values, strict=True):
            if not len(pixels) == len(values) > 0 or not np.isfinite(values).all():
                raise ValueError("the table has lines without values, or values that are not finite")

    def window(self, top: int, bottom: int, left: int, right: int, dtype: Any = np.float64) -> NDArray[Any]:
        """Interpolate the table at all pixels of a window.

        Args:
            top: first row.
            bottom: row after the last one.
            left: first column.
            right: column after the last one.
            dtype: data type of the values, float64 or float32.

        Returns:
            Values (bottom - top, right - left).
        """
        cols = np.arange(left, right, dtype=np.float64)
        lower, weights = self._rows(np.arange(top, bottom, dtype=np.float64))
        window = np.empty((bottom - top, right - left), dtype)
        mix = np.column_stack([1 - weights, weights]).astype(dtype)
        for index in np.unique(lower):
            start, stop = np.searchsorted(lower, (index, index + 1))
            pair = self._row(index, cols), self._row(min(index + 1, len(self.lines) - 1), cols)
            np.matmul(mix[start:stop], np.stack(pair).astype(dtype), out=window[start:stop])
        return window

    def __call__(self, rows: Floats, cols: Floats) -> Floats:
        """Interpolate the table at some pixels.

        Args:
            rows: (N,) rows.
            cols: (N,) columns.

        Returns:
            (N,) values.
        """
        lower, weights = self._rows(rows)
        values = np.empty(len(rows))
        for index in np.unique(lower):
            chosen = lower == index
            first = self._row(index, cols[chosen])
            second = self._row(min(index + 1, len(self.lines) - 1), cols[chosen])
            values[chosen] = first + weights[chosen] * (second - first)
        return values

    def _rows(self, rows: Floats) -> tuple[Indices, Floats]:
        """Return the index of the line before each row, and the weight of the line after it."""
        lower = np.clip(np.searchsorted(self.lines, rows, side="right") - 1, 0, max(0, len(self.lines) - 2))
        upper = np.minimum(lower + 1, len(self.lines) - 1)
        distance = np.maximum(self.lines[upper] - self.lines[lower], 1)
        return lower, np.clip((rows - self.lines[lower]) / distance, 0, 1)

    def _row(self, index: int, cols: Floats) -> Floats:
        return np.asarray(np.interp(cols, self.pixels[index], self.values[index]))
