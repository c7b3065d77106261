"""Cache of the last image that was read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from rsft.errors import DataError
from rsft.types import Pixels

FileState = tuple[int, int] | None
"""Size in bytes and modification time in ns; None if the file does not exist."""


def file_state(path: Path) -> FileState:
    """Return size and modification time of a file, which usually change with its content.

    Args:
        path: path of the file; its content is not read.

    Returns:
        Bytes and ns; None if the file does not exist.
    """
    try:
        status = path.stat()
    except OSError:  # the error is reported when the file is read
        return None
    return status.st_size, status.st_mtime_ns


class LastImageCache:
    """Reads images and caches the last one, because consecutive chips are often cut from the same image.

    An image that cannot be read is cached as its error. An image whose file has changed is read again.

    Args:
        read: reads an image file.
    """

    def __init__(self, read: Callable[[Path], Pixels]) -> None:
        self.read = read
        self._cached: tuple[Path, FileState, Pixels | DataError] | None = None

    def __call__(self, path: Path) -> Pixels:
        """Return the image at `path`.

        Args:
            path: path of the image file.

        Returns:
            Pixels (H, W, B); callers must not change them.

        Raises:
            DataError: `read` raised it, now or at the first call.
        """
        cached, state = self._cached, file_state(path)
        if cached is None or cached[:2] != (path, state):
            cached = self._cached = None  # frees the memory before the next image is decoded
            cached = self._cached = path, state, self._read(path)
        image = cached[2]
        if isinstance(image, DataError):
            raise DataError(image.message, image.location, image.hint) from image.__cause__
        return image

    def clear(self) -> None:
        """Empty the cache."""
        self._cached = None

    def _read(self, path: Path) -> Pixels | DataError:
        try:
            return self.read(path)
        except DataError as error:
            return error
