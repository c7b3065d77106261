"""Search of files."""

from __future__ import annotations

import errno
import os
import pathlib
import stat
from collections.abc import Iterator

PathParts = tuple[str, ...]
"""Names of the folders of a file and of the file itself."""


def iterate_files(root: pathlib.Path) -> Iterator[PathParts]:
    """Iterate over the files below a folder, without hidden files and folders; links are followed.

    Args:
        root: the folder.

    Yields:
        The parts of the path of each file, relative to `root`; a folder is visited once.

    Raises:
        OSError: a folder cannot be read, or a file is a pipe, a socket or a device.
    """

    def fail(error: OSError) -> None:
        raise error

    visited: set[str] = set()
    for folder, folders, files in os.walk(root, followlinks=True, onerror=fail):
        if (real := os.path.realpath(folder)) in visited:
            folders.clear()
            continue
        visited.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        parts = pathlib.Path(folder).relative_to(root).parts
        for name in sorted(name for name in files if not name.startswith(".")):
            _refuse_special(pathlib.Path(folder, name))
            yield (*parts, name)


def _refuse_special(path: pathlib.Path) -> None:
    """Raise an error for a pipe, a socket or a device: reading it could block for ever."""
    try:
        mode = path.stat().st_mode
    except OSError:  # reported when the file is read
        return
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise OSError(errno.EINVAL, "it is a pipe, a socket or a device, not a file", str(path))
