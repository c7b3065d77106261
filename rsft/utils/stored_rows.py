"""Rows of numbers in a file, for jobs that need all of them but not at once."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsft.types import Floats32, Indices

BLOCK = 2**14
"""Rows that are in memory at once."""


class StoredRows:
    """An array (N, D) of float32 in a file without a name, which ends with the object.

    Args:
        folder: folder on the disk of the file; it is made if it is missing.
        parts: at least one array (n, D), in the order of the rows. They are read by
            slices, or by an array of indices.

    Attributes:
        shape: (N, D).

    Raises:
        OSError: the disk is full.

    Example:
        >>> rows = StoredRows(Path("."), [np.zeros((2, 3)), np.ones((1, 3))])
        >>> rows[1:].tolist()
        [[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]]
    """

    def __init__(self, folder: Path, parts: Iterable[NDArray[Any]]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        # it ends with this object
        self._file = TemporaryFile(dir=folder)  # noqa: SIM115
        self.shape = 0, 0
        for part in parts:
            self._file.write(part.astype(np.float32).tobytes())
            self.shape = self.shape[0] + len(part), part.shape[1]

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | Indices) -> Floats32:
        # a copy, since the pages of a map count as memory of the process
        mapped = np.memmap(self._file, np.float32, "r", shape=self.shape)
        return np.array(mapped[rows])


Rows = NDArray[Any] | StoredRows
"""An array (N, D), in memory or in a file."""


def blocks(count: int, size: int = BLOCK) -> Iterator[slice]:
    """Yield slices of `size` rows that cover `count` rows."""
    for first in range(0, count, size):
        yield slice(first, min(first + size, count))
