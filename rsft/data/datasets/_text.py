"""Read text files that may have byte-order marks, CRLF line ends and blank lines."""

from __future__ import annotations

from pathlib import Path

from rsft.errors import DataError


def read_numbered_lines(path: Path) -> list[tuple[int, str]]:
    """Read the non-blank lines of a text file.

    Args:
        path: the file, in UTF-8 with or without a byte-order mark.

    Returns:
        Line number, from 1, and stripped text of each line.

    Raises:
        DataError: the file cannot be read or is not UTF-8.
    """
    try:
        text = path.read_text("utf-8-sig")
    except OSError as error:
        raise DataError(f"the file cannot be read: {error.strerror}", path) from error
    except UnicodeDecodeError as error:
        raise DataError("the file is not UTF-8 text", path, "save it as UTF-8") from error
    return [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
