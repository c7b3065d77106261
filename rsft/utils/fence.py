"""Limit what this process can read, write and contact, with Linux's Landlock.

See https://docs.kernel.org/userspace-api/landlock.html. The limit covers the calling
thread, and all threads and processes that it starts later, whatever library makes the
call. It cannot be lifted.
"""

import ctypes
import os
import stat
import struct
import sys
from collections.abc import Iterable
from pathlib import Path

from rsft.errors import RequestError

_CREATE_RULESET = 444
_ADD_RULE = 445
_RESTRICT_SELF = 446  # numbers of the system calls on all architectures
_SET_NO_NEW_PRIVILEGES = 38
_PATH_BENEATH = 1  # type of a rule
_ASK_VERSION = 1
_EXECUTE = 1
_WRITE_FILE = 2
_READ_FILE = 4
_READ_DIR = 8
_CREATE_AND_REMOVE = 0x1FF0
_RENAME_BETWEEN_FOLDERS = 1 << 13
_TRUNCATE = 1 << 14  # since versions 2 and 3 of Landlock
_CONNECT_TCP = 2  # since version 4
_READ = _EXECUTE | _READ_FILE | _READ_DIR
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE


_SETTING = os.environ.get("RSFT_FENCE", "")

OFF = _SETTING.lower() == "off"
"""Whether the user switched the fence off."""

TRUSTED = tuple(
    Path(text)
    for text in _SETTING.split(os.pathsep)
    if text.lower() not in ("", "on", "off")
)
"""Further folders that every command may read, such as a store of objects to which
links lead."""


OUTSIDE = "the fence hides it: a command reads only what its arguments name"
"""What to say of a file that only the fence hides."""


def outside_hint(path: str | Path) -> str:
    """Return how a command can read a file or folder that no argument names."""
    target = Path(os.path.realpath(path))
    folder = target if target.is_dir() else target.parent
    return (
        f"name {folder} as a further input, copy what you need, or trust this folder"
        f" with RSFT_FENCE={folder} (RSFT_FENCE=off switches the fence off)"
    )


def is_hidden(path: str | Path) -> bool:
    """Return whether a file that cannot be opened could be, without a fence.

    Permissions are those of the file.
    """
    return os.access(path, os.R_OK)


def hidden_error(path: str | Path) -> RequestError:
    """Return the error for a file or folder that only the fence hides."""
    return RequestError(OUTSIDE, path, outside_hint(path))


def _call(number: int, *arguments: object) -> int:
    library = ctypes.CDLL(None, use_errno=True)
    result = int(library.syscall(ctypes.c_long(number), *arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def fence_version() -> int:
    """Return the version of Landlock in this kernel; 0 without it."""
    if sys.platform != "linux":
        return 0
    try:
        return _call(
            _CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_ASK_VERSION)
        )
    except (OSError, AttributeError):
        return 0


def describe_fence() -> str:
    """Return what limits the commands on this machine; "" if nothing does."""
    if fence_version() and not OFF:
        return f"Landlock, version {fence_version()}"
    return ""


def explain_fence(error: OSError) -> RequestError | None:
    """Return a sentence for a file that the fence hides; None for other errors."""
    is_path = (
        isinstance(error, PermissionError)
        and isinstance(error.filename, str)
        and describe_fence() != ""
    )
    if is_path and is_hidden(error.filename):
        return hidden_error(error.filename)
    return None


def enter_fence(
    readable: Iterable[Path], writable: Iterable[Path], *, connects: bool
) -> bool:
    """Let this process read and write only below the given paths.

    Call it before another thread starts: threads that run already stay outside.

    Args:
        readable: files and folders whose files can be read and executed. Missing ones
            are skipped.
        writable: files and folders to read and write. Missing ones are skipped.
        connects: whether TCP connections are allowed. Kernels before 6.7 do not limit
            them.

    Returns:
        False if the kernel has no Landlock.

    Raises:
        OSError: the kernel refuses the limits.
    """
    version = fence_version()
    if not version:
        return False
    rights = _READ | _WRITE_FILE | _CREATE_AND_REMOVE
    rights |= _RENAME_BETWEEN_FOLDERS * (version >= 2) | _TRUNCATE * (version >= 3)
    if version >= 4:
        limits = struct.pack("QQ", rights, 0 if connects else _CONNECT_TCP)
    else:
        limits = struct.pack("Q", rights)
    ruleset = _call(
        _CREATE_RULESET, limits, ctypes.c_size_t(len(limits)), ctypes.c_uint32(0)
    )
    try:
        for paths, allowed in ((readable, _READ), (writable, rights)):
            for path in dict.fromkeys(paths):
                _allow(ruleset, path, allowed & rights)
        if ctypes.CDLL(None, use_errno=True).prctl(_SET_NO_NEW_PRIVILEGES, 1, 0, 0, 0):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        _call(_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint32(0))
    finally:
        os.close(ruleset)
    return True


def _allow(ruleset: int, path: Path, rights: int) -> None:
    try:
        target = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:  # missing, or not visible to this user
        return
    try:
        if stat.S_ISDIR(os.fstat(target).st_mode):
            rights = rights
        else:
            rights = rights & _OF_FILES
        rule = struct.pack("=Qi", rights, target)
        _call(
            _ADD_RULE,
            ctypes.c_int(ruleset),
            ctypes.c_int(_PATH_BENEATH),
            rule,
            ctypes.c_uint32(0),
        )
    finally:
        os.close(target)
