"""Describe a chip store as Croissant 1.1.

With the terms of GeoCroissant and of responsible AI (RAI).

The record sets are the chips of the manifest, their classes and their splits. The
statements on limitations come from the manifest and the audit.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from rsft.data.audit import read_audits
from rsft.data.chips.manifest import MANIFEST, SPLITS
from rsft.data.chips.store import AUDIT_FILE, ChipStore
from rsft.errors import DataError
from rsft.types import JsonObject, Names
from rsft.utils.atomic_files import check_is_free, sha256, write_text
from rsft.utils.licenses import RESTRICTIONS, UNKNOWN, license_restrictions
from rsft.utils.templates import render_template

Node = JsonObject
"""A node of JSON-LD."""

CROISSANT_FILE = "croissant.json"
"""File name of the description in a chip store."""

_FORMATS = {
    f".{name}": f"image/{name}"
    for name in ("bmp", "jp2", "jpeg", "png", "tiff", "webp")
}
_FORMATS |= {".jpg": "image/jpeg", ".tif": "image/tiff"}
"""Media types of chip files by suffix."""
_EXAMPLES = 3  # of a finding of the audit
_SPDX = (
    r"MIT|ISC|Apache-2\.0|BSD-[234]-Clause|CC0-1\.0|CC-BY(-NC)?(-SA|-ND)?-\d\.\d"
    r"|ODbL-1\.0|ODC-By-1\.0|PDDL-1\.0"
)


@dataclass(frozen=True)
class Publication:
    """What Croissant requires of a published data set, and a store lacks.

    None if unknown.

    Attributes:
        url: address of the page of the data set.
        creator: name of the organization that made the data set.
        published: date of its publication as YYYY-MM-DD.

    Example:
        >>> Publication(creator="Example Lab").missing
        ('url', 'datePublished')
    """

    url: str | None = None
    creator: str | None = None
    published: str | None = None

    @property
    def missing(self) -> Names:
        """The required properties that are unknown."""
        names = ("url", "creator", "datePublished")
        return tuple(name for name in names if name not in self.properties)

    @property
    def properties(self) -> Node:
        """The known properties as JSON-LD."""
        values: Node = {"url": self.url, "datePublished": self.published}
        if self.creator is not None:
            values["creator"] = {"@type": "sc:Organization", "name": self.creator}
        return {name: value for name, value in values.items() if value is not None}


def write_croissant(
    root: Path, publication: Publication = Publication(), *, overwrite: bool = False
) -> Path:
    """Write croissant.json beside the manifest of `root`, whole or not at all.

    Returns:
        Path of the file.

    Raises:
        RequestError: the folder is not a chip store, or the file exists.
        DataError: the store or its audit is damaged, or the audit describes other
            chips.

    Example:
        >>> write_croissant(Path("data/ships"), Publication(creator="Example Lab")).name
        'croissant.json'
    """
    store = ChipStore.open(root)
    path = root / CROISSANT_FILE
    check_is_free(path, overwrite)
    write_text(path, json.dumps(describe_store(store, publication), indent=2) + "\n")
    return path


def describe_store(store: ChipStore, publication: Publication = Publication()) -> Node:
    """Describe a chip store as a JSON-LD document.

    What is known of its publication is included.

    Returns:
        The document. Values that are unknown are left out, and its description and
        limitations name them.

    Raises:
        DataError: the manifest or the audit is damaged, or the audit describes other
            chips.

    Example:
        >>> description = describe_store(ChipStore.open(Path("data/ships")))
        >>> description["geocr:bandConfiguration"]["geocr:bandNameList"]
        ['gray']
    """
    table = store.table
    counts = table["split"].value_counts()
    splits = {split: int(counts[split]) for split in SPLITS if split in counts}
    spacings = pd.to_numeric(table["spacing_m"], errors="coerce").fillna(0).unique()
    left_out = [f"{count:,} skipped ({why})" for why, count in store.skipped.items()]
    if store.rejected:
        left_out.append(f"{store.rejected:,} rejected as unusable")
    suffixes = sorted({PurePosixPath(path).suffix for path in table["path"]})
    other = "application/octet-stream"
    manifest = store.root / MANIFEST
    text = render_template(
        __package__,
        "croissant.json.jinja",
        store=store,
        publication=publication,
        splits=splits,
        has_spdx=re.fullmatch(_SPDX, store.license) is not None,
        # otherwise only the records have it
        spacing=float(spacings[0]) if len(spacings) == 1 else 0,
        left_out=left_out,
        limitations=list(_list_limitations(store)),
        manifest=manifest,
        manifest_sha256=sha256(manifest),
        suffixes=suffixes,
        media_types=sorted({_FORMATS.get(suffix, other) for suffix in suffixes}),
        filled=[name for name in table if _is_filled(table[name])],
    )
    return dict(json.loads(text))


def _is_filled(column: pd.Series[Any]) -> bool:
    """Return whether a chip has a value in a column."""
    return bool((column.notna() & (column.astype(str) != "")).any())


def _list_limitations(store: ChipStore) -> Iterator[str]:
    """List faults of the audit, and license restrictions."""
    yield from _list_faults(store)
    restrictions = license_restrictions(store.license)
    if UNKNOWN in restrictions:
        yield f"The restrictions of the license are unknown (license: {store.license})."
    else:
        meanings = [f"{x} ({RESTRICTIONS[x]})" for x in restrictions]
        listed = "; ".join(meanings) or "none that rsft knows"
        yield f"Restrictions of the license: {listed}."


def _list_faults(store: ChipStore) -> Iterator[str]:
    """List what the audit found.

    Raises:
        DataError: it describes other chips.
    """
    path = store.root / AUDIT_FILE
    audits = read_audits(path) if path.is_file() else []
    if not audits:
        yield (
            "The chips were not audited. Duplicates, leaks between splits and"
            " contradictory labels are unknown."
        )
        return
    audited = Counter[tuple[str, str]]()
    for label, origins in audits[0].classes.items():
        for counts in origins.values():
            for split, count in counts.items():
                audited[label, split] += count
    table = store.table
    if audited != Counter(zip(table["class"], table["split"], strict=True)):
        raise DataError(
            "the audit describes other chips than the manifest",
            path,
            f"run `rsft audit {store.root}` again",
        )
    for finding in audits[0].findings:
        if not finding.count:
            continue
        text = f"The audit found {finding.description}: {finding.count:,}"
        if finding.total is not None:
            text += f" of {finding.total:,}"
        if finding.examples:
            text += f", such as {', '.join(finding.examples[:_EXAMPLES])}"
        yield f"{text}."
