"""Search of files."""

from __future__ import annotations

import os
import pathlib
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
        OSError: a folder cannot be read.
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
        yield from ((*parts, name) for name in sorted(files) if not name.startswith("."))
