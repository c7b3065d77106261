"""Read JSON from untrusted sources, only from regular files.

A file that is a pipe, a socket or a device can block for ever, or never end.
"""

import io
import json
import os
import stat
from errno import EINVAL, EISDIR
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

from rsft.errors import DataError
from rsft.utils.cell.named import check_link, outside_error

MAX_DEPTH = 100
"""Largest number of levels of lists and mappings in a JSON or YAML document."""

MAX_DIGITS = 1000
"""Largest number of digits of an integer in a JSON or YAML document."""


def parse_json(data: str | bytes, **options: Any) -> Any:
    """Parse JSON in UTF-8, with limits; `options` are those of `json.loads`.

    Returns:
        Its content.

    Raises:
        ValueError: it is not JSON, exceeds a limit, or has half a character, which no
            file can hold.

    Example:
        >>> parse_json('{"a": [1, 2]}')
        {'a': [1, 2]}
    """
    text = data.decode("utf-8-sig") if isinstance(data, bytes) else data
    too_deep = f"it is nested more than {MAX_DEPTH} levels deep"
    try:
        content = json.loads(text, parse_int=_parse_int, **options)
    except RecursionError:
        raise ValueError(too_deep) from None
    level: list[Any] = [[content]]
    for _ in range(MAX_DEPTH + 1):
        children = chain.from_iterable(
            x.values() if isinstance(x, dict) else x for x in level
        )
        level = [child for child in children if isinstance(child, dict | list)]
        if not level:
            if "\\ud" in text or "\\uD" in text:
                json.dumps(content, ensure_ascii=False).encode()
            return content
    raise ValueError(too_deep)


def _parse_int(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ValueError(
            f"an integer has {len(text):,} digits; the limit is {MAX_DIGITS:,}"
        )
    return int(text)


MAX_JSON_BYTES = 2**26
"""Largest JSON file that describes a bundle, a run, a chip store or an export: 64
MiB."""
MAX_TABLE_BYTES = 2**30
"""Largest file of positions, labels or predictions in JSON, CSV or text: 1 GiB."""


def leads_away(beside: Path, path: Path) -> bool:
    """Return whether a file beside another one is a link to another folder.

    If both are links, they are an honest pair, such as in a store of objects.
    """
    if not beside.is_symlink() or path.is_symlink():
        return False
    return beside.resolve().parent != path.resolve().parent


_NOT_A_FILE = "it is a pipe, a socket or a device, not a file"
# a pipe must not block `open`
_OPEN_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def open_regular(path: Path, limit: int | None = None) -> BinaryIO:
    """Open a regular file for reading; `limit` is its largest size in bytes.

    Raises:
        OSError: the file cannot be opened, or is a folder, a pipe, a socket or a
            device.
        DataError: the file is larger.
        RequestError: no argument names the file. It is not rejected among others: the
            command ends.
    """
    check_link(path)
    try:
        descriptor = os.open(path, _OPEN_FLAGS)
    except PermissionError:
        if os.access(path, os.R_OK):  # the walls of a cell hide it
            raise outside_error(path) from None
        raise
    try:
        status = os.fstat(descriptor)
        _check(status.st_mode, path)
        if limit is not None and status.st_size > limit:
            raise DataError(
                (
                    f"the file is too large: it has {status.st_size:,} bytes; the limit"
                    f" is {limit:,}"
                ),
                path,
                "check that this is the right file; divide it if it is",
            )
        return os.fdopen(descriptor, "rb")
    except (OSError, DataError):
        os.close(descriptor)
        raise


def read_regular(path: Path, limit: int = MAX_TABLE_BYTES) -> bytes:
    """Read a regular file of at most `limit` bytes.

    Returns:
        Its content.

    Raises:
        OSError: the file cannot be read, or is a folder, a pipe, a socket or a device.
        DataError: the file is larger.
    """
    with open_regular(path, limit) as file:
        return file.read()


def read_regular_text(path: Path, limit: int = MAX_TABLE_BYTES) -> str:
    """Read a regular file as UTF-8, with or without a byte-order mark.

    Returns:
        Its text, in which all ends of lines are line feeds.

    Raises:
        OSError: the file cannot be read, or is a folder, a pipe, a socket or a device.
        DataError: the file is larger.
        UnicodeDecodeError: it is not UTF-8.
    """
    with io.TextIOWrapper(open_regular(path, limit), "utf-8-sig") as file:
        return file.read()


def load_json(path: Path, limit: int = MAX_JSON_BYTES, **options: Any) -> Any:
    """Read a JSON file of at most `limit` bytes, see `parse_json`.

    Returns:
        Its content.

    Raises:
        OSError: the file cannot be read, or is a folder, a pipe, a socket or a device.
        DataError: the file is larger.
        ValueError: it is not JSON, or exceeds a limit of `parse_json`.
    """
    return parse_json(read_regular(path, limit), **options)


def check_regular(path: Path) -> None:
    """Check that a path can be given to a library that opens it. A folder is accepted.

    Raises:
        OSError: the file does not exist, or is a pipe, a socket or a device.
    """
    mode = path.stat().st_mode
    if not stat.S_ISDIR(mode):
        _check(mode, path)


def _check(mode: int, path: Path) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(EISDIR, os.strerror(EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise OSError(EINVAL, _NOT_A_FILE, str(path))
