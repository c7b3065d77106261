"""Read files that must be regular files: not pipes, sockets or devices, which can block for ever or never end."""

from __future__ import annotations

import os
import stat
from errno import EINVAL, EISDIR
from pathlib import Path
from typing import BinaryIO

_NOT_A_FILE = "it is a pipe, a socket or a device, not a file"
_OPEN_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)  # a pipe must not block `open`


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading.

    Args:
        path: path of the file; links are followed.

    Returns:
        The open file.

    Raises:
        OSError: the file cannot be opened, or is a folder, a pipe, a socket or a device.
    """
    descriptor = os.open(path, _OPEN_FLAGS)
    try:
        _check(os.fstat(descriptor).st_mode, path)
        return os.fdopen(descriptor, "rb")
    except OSError:
        os.close(descriptor)
        raise


def read_regular(path: Path) -> bytes:
    """Read a regular file.

    Args:
        path: path of the file; links are followed.

    Returns:
        Its content.

    Raises:
        OSError: the file cannot be read, or is a folder, a pipe, a socket or a device.
    """
    with open_regular(path) as file:
        return file.read()


def check_regular(path: Path) -> None:
    """Check that a path can be given to a library that opens it. A folder is accepted.

    Args:
        path: path of the file; links are followed.

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
