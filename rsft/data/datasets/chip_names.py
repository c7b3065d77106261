"""Unique names of chips, made from the paths of their files."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path


def make_chip_names(
    paths: Sequence[str | Path], groups: Iterable[object], root: Path
) -> Iterator[str]:
    """Yield one name per file that is unique within the file's group.

    A group is for example a split and a class.

    Yields:
        The file name without suffix, or `full_chip_name` below `root` where two files
        of one group share it.
    """
    stems = [Path(path).stem for path in paths]
    # names with the same hash by chance become longer, no more
    keys = list(map(hash, zip(groups, stems, strict=True)))
    counts = Counter(keys)
    for path, stem, key in zip(paths, stems, keys, strict=True):
        yield full_chip_name(Path(path), root) if counts[key] > 1 else stem


def full_chip_name(path: Path, root: Path) -> str:
    """Return the path of a file below `root` as a name: a/b.png becomes a__b_png."""
    return "__".join(path.relative_to(root).parts).replace(".", "_")
