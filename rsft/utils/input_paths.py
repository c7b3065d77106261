"""The files and folders that an input of a command stands for."""

import io
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from rsft.errors import RequestError
from rsft.utils.untrusted.documents import MAX_TABLE_BYTES, open_regular

exists = os.path.exists
"""Whether a path exists; unlike `Path.exists`, False for a name that no file can have,
such as one with too many letters. It also takes less time."""


def expand_path(path: Path) -> list[Path]:
    """Return the paths that a path, a list ("@path") or a pattern stands for.

    Raises:
        RequestError: nothing matches, or the list cannot be read.
    """
    if path.exists():
        return [path]
    if str(path).startswith("@"):
        paths = []
        for line in read_path_list(Path(str(path)[1:])):
            paths += expand_path(Path(line))
        return paths
    start = Path(path.anchor)
    matches = []
    with suppress(ValueError):  # not a valid pattern
        matches = sorted(start.glob(str(path.relative_to(start))))
    if not matches:
        raise RequestError(
            "no such file or folder, and no match as a glob", path, "check the path"
        )
    return matches


def read_path_list(path: Path) -> Iterator[str]:
    """Yield the paths of a list, one per line; empty lines and comments are left out.

    Raises:
        RequestError: the list cannot be read.
    """
    try:
        with io.TextIOWrapper(open_regular(path, MAX_TABLE_BYTES), "utf-8-sig") as file:
            for line in map(str.strip, file):
                if line and line[0] != "#":
                    yield line
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(
            "the list cannot be read", path, "give a text file with one path per line"
        ) from error
