"""An image stays decoded while chips are cut from it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from rsft.errors import DataError
from rsft.types import Pixels

FileState = tuple[int, int] | None  # bytes, and modification time in ns; None where there is no file


def file_state(path: Path) -> FileState:
    """What differs, as a rule, once the content of a file does; nothing is read."""
    try:
        status = path.stat()
    except OSError:  # whoever reads the file says what is wrong with it
        return None
    return status.st_size, status.st_mtime_ns


class LastImageCache:
    """Reads images by `read` and holds the last one, or why it cannot be read: chips come image by image.

    An image whose file has changed is read again.
    """

    def __init__(self, read: Callable[[Path], Pixels]) -> None:
        self.read = read
        self._held: tuple[Path, FileState, Pixels | DataError] | None = None

    def __call__(self, path: Path) -> Pixels:
        """The image (H, W, B), not to be written to.

        Raises:
            DataError: as `read` does.
        """
        held, state = self._held, file_state(path)
        if held is None or held[:2] != (path, state):
            held = self._held = None  # before the next is decoded: two might not fit
            held = self._held = path, state, self._read(path)
        found = held[2]
        if isinstance(found, DataError):
            raise DataError(found.message, found.location, found.hint) from found.__cause__
        return found

    def clear(self) -> None:
        """Hold nothing."""
        self._held = None

    def _read(self, path: Path) -> Pixels | DataError:
        try:
            return self.read(path)
        except DataError as error:
            return error
