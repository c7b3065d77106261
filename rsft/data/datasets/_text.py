"""Label files as people leave them: byte-order marks, CRLF, stray blank lines."""

from __future__ import annotations

from pathlib import Path

from rsft.errors import DataError


def read_numbered_lines(path: Path) -> list[tuple[int, str]]:
    """The lines of a text file that hold something, stripped, each with its number from 1.

    Raises:
        DataError: the file cannot be read or is no UTF-8.
    """
    try:
        text = path.read_text("utf-8-sig")
    except OSError as error:
        raise DataError(f"the file cannot be read: {error.strerror}", path) from error
    except UnicodeDecodeError as error:
        raise DataError("the file is not UTF-8 text", path, "save it as UTF-8") from error
    return [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
