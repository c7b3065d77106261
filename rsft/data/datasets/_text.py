"""Read text files that may have byte-order marks, CRLF line ends and blank lines."""

from __future__ import annotations

import os
from collections.abc import Iterator
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


def read_list_rows(path: Path) -> Iterator[tuple[int, str, str]]:
    r"""Read a list file with rows `path label`.

    Args:
        path: the list file.

    Yields:
        Line number, path and label of each row; \ in a path becomes /, and a row of one word has the path "".

    Raises:
        DataError: the file is not a text file.
    """
    for number, line in read_numbered_lines(path):
        name, _, label = line.rpartition("\t" if "\t" in line else " ")
        name = name.strip().replace("\\", "/")
        yield number, os.path.normpath(name).removeprefix("./") if name else "", label


def find_separator(text: str) -> str:
    """Return the separator of a CSV table: the comma, unless its header has more semicolons or tabs.

    Args:
        text: content of the table.
    """
    return max(",;\t", key=text.partition("\n")[0].count)


def describe_row_fault(relative: str, label: str) -> str:
    """Return why a row cannot be used, or "" if it can.

    Args:
        relative: path in the row; it must not leave the root.
        label: label in the row; it must be a valid folder name.
    """
    if not relative:
        return "a row is `path label`"
    if leaves_root(relative):
        return f"{relative} leaves the folder"
    if label.startswith("-") and label[1:].isdecimal():
        return f"label {label}: a class number must be 0 or more"
    if label in (".", "..") or "/" in label or "\\" in label:
        return f"label {label} cannot name a class"
    return ""


def leaves_root(path: str) -> bool:
    """Return whether a normalized path is absolute or begins above its root.

    Args:
        path: a path with forward slashes.
    """
    return path.startswith(("/", "../"))
