"""Files below a folder, their splits, and the lines of text files."""

import errno
import math
import os
import stat
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

PathOrText = str | os.PathLike[str]
"""A path, as TorchGeo takes it."""

PathParts = tuple[str, ...]
"""Names of the folders of a file and of the file itself."""

Rejected = list[tuple[str, int, str]]
"""File, line (0 for the whole file) and reason."""


class SourceReport:
    """Counts the inputs of a data set that give no sample.

    Attributes:
        skipped: number of inputs that are left out on purpose, by reason.
        rejected: inputs that cannot be used.
    """

    def __init__(self) -> None:
        self.skipped: Counter[str] = Counter()
        self.rejected: Rejected = []

    def reject(self, path: Path, reason: str, line: int = 0) -> None:
        """Add a file, or one of its lines, to the rejected inputs."""
        self.rejected.append((str(path), line, reason))


SPLIT_FOLDERS = {
    "train": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}
"""Split by folder name."""

MAX_LIST_BYTES = 2**28
"""Largest text file of labels or lists: 256 MiB."""

_CHIP_STORE = {"dataset.json", "manifest.parquet"}


def iterate_files(root: Path) -> Iterator[PathParts]:
    """Yield the parts of the relative paths of the files below a folder.

    The folder need not exist. Hidden files are left out, and folders of chips that
    were made from such files. Links are followed; a folder is visited once.

    Raises:
        OSError: a folder cannot be read, or a file is a pipe, a socket or a device,
            which could block for ever.
    """

    def fail(error: OSError) -> None:
        raise error

    if not root.is_dir():
        return
    visited = set()
    for folder, folders, files in os.walk(root, followlinks=True, onerror=fail):
        real = os.path.realpath(folder)
        if real in visited or set(files) >= _CHIP_STORE:
            folders.clear()
            continue
        visited.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith("."):
                path = Path(folder, name)
                _check_kind(path)
                yield path.relative_to(root).parts


def _check_kind(path: Path) -> None:
    try:
        mode = path.stat().st_mode
    except OSError:  # reported when the file is read
        return
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise OSError(
            errno.EINVAL, "it is a pipe, a socket or a device, not a file", str(path)
        )


def find_split(path: Path, root: Path) -> str:
    """Return the split of the nearest parent folder below `root` that names one.

    Returns:
        train, val or test; "" if no parent has such a name.

    Example:
        >>> find_split(Path("a/train/images/1.png"), Path("a"))
        'train'
    """
    for name in path.relative_to(root).parts[-2::-1]:
        if name.lower() in SPLIT_FOLDERS:
            return SPLIT_FOLDERS[name.lower()]
    return ""


def read_text_lines(path: Path) -> list[tuple[int, str]]:
    """Return number, from 1, and stripped text of the lines that are not blank.

    Raises:
        OSError: the file cannot be read, or is larger than MAX_LIST_BYTES.
        ValueError: the file is not UTF-8, with or without a byte-order mark.
    """
    size = path.stat().st_size
    if size > MAX_LIST_BYTES:
        raise OSError(
            errno.EFBIG,
            f"it has {size:,} bytes; the limit is {MAX_LIST_BYTES:,}",
            str(path),
        )
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text") from error
    numbered = [(number, line.strip()) for number, line in enumerate(lines, 1)]
    return [(number, line) for number, line in numbered if line]


def parse_finite(text: str | None) -> float | None:
    """Return the number in a text; None for a missing, infinite or invalid one."""
    try:
        value = float(text or "nan")
    except ValueError:
        return None
    return value if math.isfinite(value) else None
