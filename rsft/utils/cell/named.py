"""The files that a command may read: those that its arguments name.

The content of a named folder may be a stranger's, so a link in it is followed only to
what is named as well.
"""

import atexit
import json
import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from tempfile import NamedTemporaryFile

from rsft.errors import RequestError

SETTING = "RSFT_CELL"
"""Environment variable with the readable paths of this job, and whether it may contact
servers, for the processes that it starts. In a cell, it has those of the cell."""

_MAX_CHARACTERS = 30_000
"""Of the variable. With more than 32,767 on Windows, or 131,071 on Linux, no process
starts."""

INSIDE = "RSFT_INSIDE_CELL"
"""Environment variable of the processes of a cell."""

_WAYS = os.environ.get("RSFT_FENCE", "")

OFF = _WAYS.lower() == "off"
"""Whether the user follows all links."""

TRUSTED = tuple(
    Path(text)
    for text in _WAYS.split(os.pathsep)
    if text.lower() not in ("", "on", "off")
)
"""Further folders that every command may read, such as a store of objects to which
links lead."""


def outside_error(path: str | Path) -> RequestError:
    """Return the error for a file or folder that no argument names."""
    target = Path(os.path.realpath(path))
    folder = target if target.is_dir() else target.parent
    return RequestError(
        f"no argument names {target}, so the command does not read it",
        path,
        f"name {folder} as a further input, copy what you need, or trust this folder"
        f" with RSFT_FENCE={folder} (RSFT_FENCE=off follows all links)",
    )


def check_link(path: Path) -> None:
    """Check that a file in a named folder is no link to what is not named.

    A cell reads named files only, as its walls would enforce. Other files of a command,
    such as caches, may be anywhere.

    Raises:
        RequestError: it is one.
    """
    named = _named_paths(os.environ.get(SETTING, ""))
    if OFF or not named:
        return
    place = os.path.abspath(path)  # noqa: PTH100, which resolves links
    target = os.path.realpath(place)
    is_checked = INSIDE in os.environ or _is_below(place, named)
    leads_out = is_checked and not _is_below(target, named)
    if leads_out and os.path.exists(target):  # noqa: PTH110, which fails for long names
        raise outside_error(path)


def write_setting(paths: Sequence[str], connects: bool) -> None:
    """Set what this job may read, also for the processes that it starts.

    Many paths, such as those of a long list of scenes, are written into a temporary
    file, which is removed at the end of this process.

    Args:
        paths: the readable files and folders.
        connects: whether the job may contact servers.
    """
    text = json.dumps([paths, connects])
    if len(text) > _MAX_CHARACTERS:
        with NamedTemporaryFile("w", prefix="rsft-", delete=False) as file:
            file.write(text)
        atexit.register(os.unlink, file.name)
        text = file.name
    os.environ[SETTING] = text


def read_setting(text: str) -> tuple[list[str], bool]:
    """Return the readable paths, and whether the job may contact servers.

    Args:
        text: the value of the variable: JSON, or the name of a file with it.
    """
    if not text.startswith("["):
        text = Path(text).read_text()
    paths, connects = json.loads(text)
    return paths, connects


@lru_cache(maxsize=4)
def _named_paths(text: str) -> frozenset[str]:
    """Return the named paths, with links resolved as well."""
    paths = read_setting(text)[0] if text else ()
    return frozenset([*map(os.path.abspath, paths), *map(os.path.realpath, paths)])


@lru_cache(maxsize=16)  # a chip is opened several times
def _is_below(path: str, named: frozenset[str]) -> bool:
    return any(str(x) in named for x in (path, *Path(path).parents))
