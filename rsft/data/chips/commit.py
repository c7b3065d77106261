"""Replace the manifest of a store and the files that belong to it, so that a killed process leaves no mixture.

The new manifest gets its name in one step, and this step decides: before it, readers see the old store, after it the
new one. Before it, the description of the new store waits in dataset.json beside the old one, with the hash of the
manifest that it belongs to and the names of the new chips.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from rsft.data.chips.builder import write_chip
from rsft.data.chips.manifest_columns import PROVENANCE, check_chip_path
from rsft.data.chips.store import DATASET, MANIFEST, PENDING, SCHEMA, read_manifest, read_pending_change
from rsft.errors import RequestError
from rsft.utils.atomic_files import sha256, sync_all, write_bytes, write_text
from rsft.utils.process_lock import process_lock
from rsft.utils.write_errors import explain_os_error


@contextmanager
def locked_store(root: Path) -> Iterator[None]:
    """Keep other processes from changing a store, and settle a change that was interrupted.

    Args:
        root: folder of the store.

    Yields:
        Nothing.

    Raises:
        RequestError: another process changes or builds the store.
        DataError: the record of the interrupted change or the manifest is damaged.
        RsftError: the disk is full or not writable.
    """
    root = root.resolve()

    def conflict() -> RequestError:
        return RequestError("another process is changing this store", root, "wait until it has finished, or stop it")

    try:
        with process_lock(root.parent / f".{root.name}.lock", conflict):
            _settle(root)
            yield
    except OSError as error:
        again = "run the same command again: the store is the old or the new one"
        raise explain_os_error(error, root, again) from error


def commit_store(root: Path, manifest: pd.DataFrame, dataset: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
    """Replace manifest and description of a store, and write its new chips. The store must be locked.

    Args:
        root: folder of the store.
        manifest: all rows of the new manifest, in any order.
        dataset: the new content of dataset.json.
        files: content of the new chips, by path relative to `root`.
    """
    data = _encode_manifest(manifest)
    digest = _digest(data)
    current, _ = read_pending_change(root)
    pending = {"manifest_sha256": digest, "files": sorted(files), DATASET: dict(dataset)}
    _write_json(root / DATASET, current | {PENDING: pending})
    for path, content in files.items():
        write_chip(str(root / path), content)
    sync_all()  # the chips must be on the disk before the manifest names them
    write_bytes(root / MANIFEST, data)
    _write_json(root / DATASET, dataset)


def _settle(root: Path) -> None:
    """Finish or undo the change of a process that was killed."""
    dataset, change = read_pending_change(root)
    if change is None:
        return
    if change.manifest_sha256 == sha256(root / MANIFEST):
        _write_json(root / DATASET, change.description)
        return
    paths = set(read_manifest(root)["path"])
    for path in set(change.files) - paths:
        _remove_chip(root, path)
    _write_json(root / DATASET, dataset)


def _remove_chip(root: Path, path: str) -> None:
    """Delete a chip. Nothing else is deleted, because a store may come from somebody else."""
    with suppress(ValueError):
        check_chip_path(path)
        file = root / path
        if path.startswith("chips/") and file.is_file() and file.parent.resolve().is_relative_to(root):
            file.unlink()


def _encode_manifest(manifest: pd.DataFrame) -> bytes:
    """Return the manifest as a Parquet file, sorted by path; columns that neither rsft nor this change knows stay."""
    table = manifest.sort_values("path", kind="stable").reset_index(drop=True)
    fields = {field.name: field.type for field in SCHEMA} | PROVENANCE
    columns = {
        name: pa.array(table[name], fields.get(name), from_pandas=True) if name in fields else pa.array(table[name])
        for name in [*SCHEMA.names, *(name for name in table.columns if name not in SCHEMA.names)]
    }
    out = BytesIO()
    pq.write_table(pa.table(columns), out)
    return out.getvalue()


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    write_text(path, json.dumps(content, indent=2) + "\n")


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
