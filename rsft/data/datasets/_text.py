"""Read text files that may have byte-order marks, CRLF line ends and blank lines."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

from rsft.errors import DataError

MAX_LABEL_BYTES = 250
"""Longest name of a class; names of files have at most 255 bytes, with their suffix."""


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
    if any("\ud800" <= letter <= "\udfff" for letter in label):  # bytes of a folder name that are no text
        return "the name of the class folder is not UTF-8 text: rename it"
    if len(os.fsencode(label)) > MAX_LABEL_BYTES:
        return f"label {label[:40]}... has {len(label):,} letters; the limit is {MAX_LABEL_BYTES} bytes"
    if label in (".", "..") or "/" in label or "\\" in label:
        return f"label {label} cannot name a class"
    return ""


def is_file(path: Path) -> bool:
    """Return whether a file exists; a name that is too long for the file system is the name of no file.

    Args:
        path: the path.
    """
    try:
        return path.is_file()
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return False
        raise


def leaves_root(path: str) -> bool:
    """Return whether a normalized path is absolute or begins above its root.

    Args:
        path: a path with forward slashes.
    """
    return path.startswith(("/", "../"))
