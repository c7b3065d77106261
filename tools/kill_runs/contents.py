"""Compare what two runs of a command have left, byte by byte but for clocks."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import sqlite3
from contextlib import closing
from pathlib import Path

from rsft.training.runs.reader import METADATA_FILE, TIMING_COLUMNS

# of run.json: they record how often and how long the run was continued
_SESSION_KEYS = {
    "seconds",
    "resumed",
}
_TIME = re.compile(rb"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|\+00:00)?")


def digest_folder(folder: Path) -> dict[str, str]:
    """Return a hash of the content of each file, by path.

    Args:
        folder: the working folder of a command.
    """
    files = sorted(
        path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()
    )
    hashes = {path.relative_to(folder).as_posix(): _digest(path) for path in files}
    empty = (
        path for path in folder.rglob("*") if path.is_dir() and not any(path.iterdir())
    )
    return hashes | {
        f"{path.relative_to(folder).as_posix()}/": "folder" for path in empty
    }


def _digest(path: Path) -> str:
    if path.suffix == ".gpkg":
        with closing(sqlite3.connect(path)) as database:
            content = "\n".join(database.iterdump()).encode()
    elif path.name == "metrics.csv":
        content = _without_times(path.read_text("utf-8"))
    elif path.name == METADATA_FILE:
        metadata = json.loads(path.read_text("utf-8"))
        content = json.dumps(
            {key: value for key, value in metadata.items() if key not in _SESSION_KEYS},
            sort_keys=True,
        ).encode()
    else:
        content = path.read_bytes()
    return hashlib.sha256(_TIME.sub(b"TIME", content)).hexdigest()


def _without_times(text: str) -> bytes:
    rows = list(csv.reader(io.StringIO(text)))
    kept = [
        index
        for index, name in enumerate(rows[0] if rows else [])
        if name not in TIMING_COLUMNS
    ]
    return "\n".join(",".join(row[index] for index in kept) for row in rows).encode()
