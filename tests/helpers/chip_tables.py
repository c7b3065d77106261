"""Write a chip store that has a manifest, but no pixels."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from rsft.data.chips.manifest import MANIFEST, SCHEMA
from rsft.data.chips.store import DATASET, REJECTED, ChipStore


def write_manifest_store(
    root: Path, classes: Sequence[str], tail: Sequence[str] = (), **columns: object
) -> ChipStore:
    """Write the store that the columns of its manifest describe; columns that are not
    named contain empty texts."""
    (root / "chips").mkdir(parents=True)
    empty = dict.fromkeys(SCHEMA.names, "")
    pd.DataFrame(empty | columns).to_parquet(root / MANIFEST)
    groups = {
        "head": [name for name in classes if name not in tail],
        "medium": [],
        "tail": list(tail),
    }
    description = {
        "name": "x",
        "classes": list(classes),
        "bands": ["VV"],
        "groups": groups,
        "skipped": {},
    }
    (root / DATASET).write_text(json.dumps(description))
    (root / REJECTED).write_text("file,line,reason\n")
    return ChipStore.open(root)
