"""Describe a chip store as Croissant, with the terms of GeoCroissant and of responsible AI."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from rsft.data.audit.findings import AUDIT_FILE, AuditResult, read_audits
from rsft.data.chips.manifest_columns import SPLITS
from rsft.data.chips.store import MANIFEST, ChipStore
from rsft.data.croissant.quality import describe_selection, describe_sources, list_biases, list_limitations
from rsft.data.croissant.record_sets import Node, make_record_sets
from rsft.data.croissant.vocabulary import CONFORMS_TO, CONTEXT, CROISSANT_FILE
from rsft.errors import DataError, RequestError
from rsft.utils.atomic_files import sha256, write_text

_PARQUET = "application/x-parquet"  # the name that mlcroissant reads
_FORMATS = {
    **dict.fromkeys((".jpg", ".jpeg"), "image/jpeg"),
    **dict.fromkeys((".tif", ".tiff"), "image/tiff"),
    **{f".{name}": f"image/{name}" for name in ("bmp", "jp2", "png", "webp")},
}
"""Media types of chip files by suffix."""

_SPDX = r"MIT|ISC|Apache-2\.0|BSD-[234]-Clause|CC0-1\.0|CC-BY(-NC)?(-SA|-ND)?-\d\.\d|ODbL-1\.0|ODC-By-1\.0|PDDL-1\.0"


@dataclass(frozen=True)
class Publication:
    """What Croissant requires of a published data set, and a chip store does not know.

    Attributes:
        url: address of the page of the data set; None if unknown.
        creator: name of the organization that made the data set; None if unknown.
        published: date of its publication as YYYY-MM-DD; None if unknown.

    Example:
        >>> Publication(creator="Example Lab").missing
        ('url', 'datePublished')
    """

    url: str | None = None
    creator: str | None = None
    published: str | None = None

    @property
    def missing(self) -> tuple[str, ...]:
        """The required properties that are unknown."""
        return tuple(name for name in ("url", "creator", "datePublished") if name not in self.properties)

    @property
    def properties(self) -> Node:
        """The known properties as JSON-LD."""
        creator = None if self.creator is None else {"@type": "sc:Organization", "name": self.creator}
        values = {"url": self.url, "creator": creator, "datePublished": self.published}
        return {name: value for name, value in values.items() if value is not None}


def write_croissant(root: Path, publication: Publication = Publication(), *, overwrite: bool = False) -> Path:
    """Write croissant.json beside the manifest of a chip store, completely or not at all.

    Args:
        root: folder of the store.
        publication: properties that the store does not know.
        overwrite: replace an existing file.

    Returns:
        Path of the file.

    Raises:
        RequestError: the folder is not a chip store, or the file exists.
        DataError: the store or its audit is damaged, or the audit describes other chips.

    Example:
        >>> write_croissant(Path("data/ships"), Publication(creator="Example Lab")).name
        'croissant.json'
    """
    store, path = ChipStore.open(root), root / CROISSANT_FILE
    if path.exists() and not overwrite:
        raise RequestError("the file exists already", path, "add --overwrite")
    write_text(path, json.dumps(describe_store(store, publication), indent=2) + "\n")
    return path


def describe_store(store: ChipStore, publication: Publication = Publication()) -> Node:
    """Describe a chip store as a JSON-LD document.

    Args:
        store: the chip store.
        publication: properties that the store does not know.

    Returns:
        The document. Values that are unknown are left out, and its description and limitations name them.

    Raises:
        DataError: the manifest or the audit is damaged, or the audit describes other chips.

    Example:
        >>> describe_store(ChipStore.open(Path("data/ships")))["geocr:bandConfiguration"]["geocr:bandNameList"]
        ['gray']
    """
    splits = [split for split in SPLITS if (store.table["split"] == split).any()]
    audit = _read_audit(store)
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": list(CONFORMS_TO),
        "name": store.name,
        "description": _summary(store, splits, publication),
        "license": _license(store.license),
        **publication.properties,
        "geocr:bandConfiguration": _band_configuration(store.bands),
        **_spatial_resolution(store.table["spacing_m"]),
        "geocr:samplingStrategy": describe_selection(store),
        "geocr:spatialBias": "unknown: a chip store has no positions of chips",
        "rai:dataCollectionRawData": describe_sources(store),
        "rai:dataBiases": list_biases(store, splits),
        "rai:dataLimitations": list_limitations(store, audit),
        "distribution": [_manifest_file(store.root / MANIFEST), _chip_files(store.table["path"])],
        "recordSet": make_record_sets(store, splits),
    }


def _summary(store: ChipStore, splits: list[str], publication: Publication) -> str:
    counts = ", ".join(f"{(store.table['split'] == split).sum():,} {split}" for split in splits)
    units = ", ".join(store.units)
    sentences = [
        f"{len(store.table):,} image chips of {len(store.classes):,} classes ({counts}).",
        f"Bands: {', '.join(store.bands)}. Unit of the pixel values: {units}.",
        f"License: {store.license}.",
        f"Unknown: {', '.join(publication.missing)}." if publication.missing else "",
    ]
    return " ".join(filter(None, sentences))


def _license(text: str) -> str | Node:
    """Return the address of a common license, or a work with the text as its name, also if that is "unknown"."""
    is_known = re.fullmatch(_SPDX, text) is not None
    return f"https://spdx.org/licenses/{text}.html" if is_known else {"@type": "sc:CreativeWork", "name": text}


def _band_configuration(bands: tuple[str, ...]) -> Node:
    return {
        "@type": "geocr:BandConfiguration",
        "geocr:totalBands": len(bands),
        "geocr:bandNameList": list(bands),
    }


def _spatial_resolution(spacing: pd.Series[Any]) -> Node:
    """Return the pixel spacing if it is known and the same for all chips; otherwise only the records have it."""
    values = set(pd.to_numeric(spacing, errors="coerce").fillna(0))
    value = values.pop() if len(values) == 1 else 0
    return (
        {"geocr:spatialResolution": {"@type": "sc:QuantitativeValue", "value": value, "unitText": "m"}} if value else {}
    )


def _manifest_file(path: Path) -> Node:
    return {
        "@type": "cr:FileObject",
        "@id": MANIFEST,
        "name": MANIFEST,
        "description": "One row per chip.",
        "contentUrl": MANIFEST,
        "contentSize": f"{path.stat().st_size} B",
        "encodingFormat": _PARQUET,
        "sha256": sha256(path),
    }


def _chip_files(paths: Iterable[str]) -> Node:
    suffixes = sorted({PurePosixPath(path).suffix for path in paths})
    formats = {_FORMATS.get(suffix, "application/octet-stream") for suffix in suffixes}
    return {
        "@type": "cr:FileSet",
        "@id": "chip-files",
        "name": "chip-files",
        "description": "Image files of the chips, with unchanged pixels.",
        "encodingFormat": sorted(formats),
        "includes": [f"chips/**/*{suffix}" for suffix in suffixes],
    }


def _read_audit(store: ChipStore) -> AuditResult | None:
    path = store.root / AUDIT_FILE
    audits = read_audits(path) if path.is_file() else []
    if not audits:
        return None
    audited = Counter(
        {
            (label, split): sum(counts.get(split, 0) for counts in origins.values())
            for label, origins in audits[0].classes.items()
            for split in SPLITS
        }
    )
    if audited != Counter(zip(store.table["class"], store.table["split"], strict=True)):
        raise DataError(
            "the audit describes other chips than the manifest", path, f"run `rsft audit {store.root}` again"
        )
    return audits[0]
