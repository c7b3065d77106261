"""Unique names of chips."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path


def make_chip_names(paths: Sequence[Path], groups: Sequence[object], root: Path) -> list[str]:
    """Return one name per file that is unique within the file's group.

    Args:
        paths: image files (N,).
        groups: the namespace of each file (N,), for example its split and class.
        root: the folder that contains all files.

    Returns:
        The file name without suffix, or `full_chip_name` where two files of one group share it (N,).
    """
    counts = Counter(zip(groups, (path.stem for path in paths), strict=True))
    return [
        path.stem if counts[group, path.stem] == 1 else full_chip_name(path, root)
        for path, group in zip(paths, groups, strict=True)
    ]


def full_chip_name(path: Path, root: Path) -> str:
    """Return the path of a file below `root` as a name: `a/b.png` becomes `a__b_png`."""
    return "__".join(path.relative_to(root).parts).replace(".", "_")
