"""Unique names of chips, made from the paths of their files."""

from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np


def make_chip_names(
    paths: Sequence[str | Path], groups: Iterable[object], root: Path
) -> Iterator[str]:
    """Yield one name per file that is unique within the file's group.

    A group is for example a split and a class.

    Yields:
        The file name without suffix, or `full_chip_name` below `root` where two files
        of one group share it.
    """
    keys = map(_hash_name, paths, groups)
    hashes = np.fromiter(keys, np.uint64, len(paths))
    values, counts = np.unique(hashes, return_counts=True)
    shared = set(values[counts > 1].tolist())
    for path, key in zip(map(Path, paths), hashes.tolist(), strict=True):
        yield full_chip_name(path, root) if key in shared else path.stem


def _hash_name(path: str | Path, group: object) -> int:
    """Return 8 bytes; names with the same hash by chance become longer, no more."""
    key = ascii((group, Path(path).stem)).encode()
    return int.from_bytes(sha256(key).digest()[:8])


def full_chip_name(path: Path, root: Path) -> str:
    """Return the path of a file below `root` as a name: a/b.png becomes a__b_png."""
    return "__".join(path.relative_to(root).parts).replace(".", "_")
