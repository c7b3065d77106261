"""Check a file of torch.save before torch reads it."""

from __future__ import annotations

import pickletools
import zipfile
from pathlib import Path

MAX_PICKLE_BYTES = 2**26
"""Largest pickle in a checkpoint: 64 MiB. It contains names and shapes; the numbers lie beside it."""

_ALLOCATING = frozenset(("bytearray", "__builtin__ bytearray", "builtins bytearray"))
"""Globals that torch allows with `weights_only`, and that allocate any number of bytes."""


def check_torch_file(path: Path) -> None:
    """Check that reading a checkpoint takes no more memory than its size.

    Args:
        path: a file that torch.save wrote.

    Raises:
        ValueError: a member is compressed, the pickle is too large, or it asks for memory that the file does not fill.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                if member.compress_type != zipfile.ZIP_STORED:
                    raise ValueError(f"its member {member.filename[:80]!r} is compressed")
                if not member.filename.endswith("/data.pkl"):
                    continue
                if member.file_size > MAX_PICKLE_BYTES:
                    raise ValueError(f"its pickle is larger than {MAX_PICKLE_BYTES:,} bytes")
                _check_pickle(archive.read(member))
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError, EOFError):
        return  # torch says what is wrong


def _check_pickle(data: bytes) -> None:
    is_allocating = False
    try:
        for _, argument, _ in pickletools.genops(data):
            is_allocating |= isinstance(argument, str) and argument in _ALLOCATING
    except (ValueError, IndexError, KeyError):  # a damaged pickle, which torch reports
        pass
    if is_allocating:
        raise ValueError("it asks for a bytearray, which may have any size")
