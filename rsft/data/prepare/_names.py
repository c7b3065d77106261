"""Names that tell chips apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path


def chip_names(paths: Sequence[Path], groups: Sequence[object], root: Path) -> list[str]:
    """File names without suffix; where two of one group agree, their whole paths under `root`, joined by "__"."""
    seen = Counter(zip(groups, (path.stem for path in paths), strict=True))
    return [
        path.stem if seen[group, path.stem] == 1 else "__".join(path.relative_to(root).parts).replace(".", "_")
        for path, group in zip(paths, groups, strict=True)
    ]
