"""Describe a chip store as Croissant 1.1.

With the terms of GeoCroissant and of responsible AI (RAI).

The record sets are the chips of the manifest, their classes and their splits. The
statements on biases, limitations and origin of the chips come from the manifest and the
audit.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from rsft.data.audit import read_audits
from rsft.data.chips.store import (
    AUDIT_FILE,
    MANIFEST,
    SPLITS,
    ChipStore,
    list_first_names,
    missing_classes,
)
from rsft.errors import DataError, RequestError
from rsft.utils.atomic_files import sha256, write_text
from rsft.utils.licenses import RESTRICTIONS, UNKNOWN, license_restrictions

Node = dict[str, Any]
"""A node of JSON-LD."""

COLUMN_DESCRIPTIONS: Mapping[str, str] = {
    "name": "Name of the chip, unique within its split and class.",
    "path": "Path of the image file, relative to this description.",
    "split": "Split of the chip.",
    "class": "Class of the object in the chip.",
    "group": (
        "Group of the class by its number of training chips: head, medium or tail."
    ),
    "group_key": "Scene, image or vessel of the chip.",
    "source": "Data set that the chip comes from.",
    "sensor": "Instrument.",
    "unit": "Unit of the pixel values.",
    "bands": "Names of the bands, joined by commas.",
    "spacing_m": "Pixel spacing in meters, mean of both directions.",
    "polarisation": "Polarization of a radar image.",
    "incidence_deg": "Incidence angle of a radar image in degrees.",
    "mmsi": "Maritime Mobile Service Identity of the vessel.",
    "box": "Corners x1 y1 ... x4 y4 of the object, in pixels of the chip.",
    "sha256": "SHA-256 of the image file.",
    "flags": "Flags of the build, joined by commas.",
    "added_from": "Table of a label that was added or changed later.",
    "added_bundle": (
        "SHA-256 of the bundle that had classified the chip before it was labeled."
    ),
    "added_predicted": "Class that this bundle had predicted.",
    "added_previous": "Class of the chip before.",
    "added_on": "Date and time of the label.",
}
"""Meaning of the columns of a manifest; other columns are not described."""

CROISSANT_FILE = "croissant.json"
"""File name of the description in a chip store."""

CONFORMS_TO = tuple(
    f"http://mlcommons.org/croissant/{name}" for name in ("1.1", "RAI/1.0", "geo/1.0")
)
"""Specifications that the description follows."""

_CROISSANT_TERMS = (
    "arrayShape",
    "citeAs",
    "column",
    "containedIn",
    "equivalentProperty",
    "excludes",
    "extract",
    "field",
    "fileObject",
    "fileProperty",
    "fileSet",
    "format",
    "includes",
    "isArray",
    "isLiveDataset",
    "jsonPath",
    "key",
    "md5",
    "parentField",
    "path",
    "readLines",
    "recordSet",
    "references",
    "regex",
    "repeated",
    "replace",
    "samplingRate",
    "sdVersion",
    "separator",
    "source",
    "subField",
    "transform",
    "unArchive",
    "value",
)

CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "geocr": "http://mlcommons.org/croissant/geo/",
    "dct": "http://purl.org/dc/terms/",
    "conformsTo": "dct:conformsTo",
    "name": {"@container": "@language"},
    "description": {"@container": "@language"},
    "data": {"@id": "cr:data", "@type": "@json"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    **{term: f"cr:{term}" for term in _CROISSANT_TERMS},
}
"""JSON-LD context of the description. It is in the file, so that nobody needs the
network to read it."""


_PARQUET = "application/x-parquet"  # the name that mlcroissant reads
_FORMATS = {
    f".{name}": f"image/{name}"
    for name in ("bmp", "jp2", "jpeg", "png", "tiff", "webp")
}
_FORMATS |= {".jpg": "image/jpeg", ".tif": "image/tiff"}
"""Media types of chip files by suffix."""
_SPLIT_TERMS = dict(
    zip(SPLITS, ("cr:TrainingSplit", "cr:ValidationSplit", "cr:TestSplit"), strict=True)
)
_COLUMN_PROPERTIES: dict[str, Node] = {
    "class": {"references": {"field": {"@id": "classes/name"}}},
    "split": {"references": {"field": {"@id": "splits/name"}}},
    "path": {"equivalentProperty": "sc:contentUrl"},
    "sha256": {"equivalentProperty": "sc:sha256"},
    "spacing_m": {"equivalentProperty": "geocr:spatialResolution"},
    "box": {"isArray": True, "arrayShape": "8"},
}
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
    def missing(self) -> tuple[str, ...]:
        """The required properties that are unknown."""
        return tuple(
            name
            for name in ("url", "creator", "datePublished")
            if name not in self.properties
        )

    @property
    def properties(self) -> Node:
        """The known properties as JSON-LD."""
        if self.creator is None:
            creator = None
        else:
            creator = {"@type": "sc:Organization", "name": self.creator}
        values = {"url": self.url, "creator": creator, "datePublished": self.published}
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
    if path.exists() and not overwrite:
        raise RequestError("the file exists already", path, "add --overwrite")
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
    splits = [split for split in SPLITS if (table["split"] == split).any()]
    sizes = ", ".join(
        f"{(table['split'] == split).sum():,} {split}" for split in splits
    )
    spacings = set(pd.to_numeric(table["spacing_m"], errors="coerce").fillna(0))
    # otherwise only the records have it
    spacing = spacings.pop() if len(spacings) == 1 else 0
    resolution = {"@type": "sc:QuantitativeValue", "value": spacing, "unitText": "m"}
    if publication.missing:
        unknown = f" Unknown: {', '.join(publication.missing)}."
    else:
        unknown = ""
    reasons = [
        f"{count:,} skipped ({reason})" for reason, count in store.skipped.items()
    ]
    reasons += [f"{store.rejected:,} rejected as unusable"] if store.rejected else []
    description = (
        f"{len(table):,} image chips of {len(store.classes):,} classes ({sizes}). "
    )
    description += (
        f"Bands: {', '.join(store.bands)}. Unit of the pixel values:"
        f" {', '.join(store.units)}. "
    )
    description += f"License: {store.license}.{unknown}"
    has_spdx = re.fullmatch(_SPDX, store.license) is not None
    license_node = {"@type": "sc:CreativeWork", "name": store.license}
    origins = [
        f"Chips by {name}: {_tally(table[name]) or 'unknown'}."
        for name in ("source", "sensor")
    ]
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": list(CONFORMS_TO),
        "name": store.name,
        "description": description,
        "license": (
            f"https://spdx.org/licenses/{store.license}.html"
            if has_spdx
            else license_node
        ),
        **publication.properties,
        "geocr:bandConfiguration": {
            "@type": "geocr:BandConfiguration",
            "geocr:totalBands": len(store.bands),
            "geocr:bandNameList": list(store.bands),
        },
        **({"geocr:spatialResolution": resolution} if spacing else {}),
        "geocr:samplingStrategy": (
            f"Chips: {len(table):,}. Inputs left out: {'; '.join(reasons) or 'none'}."
        ),
        "geocr:spatialBias": "unknown: a chip store has no positions of chips",
        "rai:dataCollectionRawData": " ".join(origins),
        "rai:dataBiases": list(_list_biases(store, splits)),
        "rai:dataLimitations": list(_list_limitations(store)),
        "distribution": _files(store),
        "recordSet": _record_sets(store, splits),
    }


def _files(store: ChipStore) -> list[Node]:
    """Describe the manifest and the image files."""
    manifest = store.root / MANIFEST
    suffixes = sorted({PurePosixPath(path).suffix for path in store.table["path"]})
    return [
        {
            **_node("cr:FileObject", MANIFEST, "One row per chip."),
            "contentUrl": MANIFEST,
            "contentSize": f"{manifest.stat().st_size} B",
            "encodingFormat": _PARQUET,
            "sha256": sha256(manifest),
        },
        {
            **_node(
                "cr:FileSet",
                "chip-files",
                "Image files of the chips, with unchanged pixels.",
            ),
            "encodingFormat": sorted(
                {
                    _FORMATS.get(suffix, "application/octet-stream")
                    for suffix in suffixes
                }
            ),
            "includes": [f"chips/**/*{suffix}" for suffix in suffixes],
        },
    ]


def _record_sets(store: ChipStore, splits: Sequence[str]) -> list[Node]:
    """Describe the splits, the classes with their numbers of chips, and the chips.

    The first two have their records.
    """
    counts = {split: store.class_counts(split).tolist() for split in splits}
    group_of = {name: group for group, names in store.groups.items() for name in names}
    class_fields = [
        _field("classes/name", "sc:Text", "Name."),
        _field(
            "classes/label", "sc:Integer", "Index of the class in a classifier, from 0."
        ),
        _field("classes/group", "sc:Text", COLUMN_DESCRIPTIONS["group"]),
        *(
            _field(
                f"classes/{split}",
                "sc:Integer",
                f"Number of chips in the split {split}.",
            )
            for split in splits
        ),
    ]
    classes = [
        {
            "classes/name": name,
            "classes/label": label,
            "classes/group": group_of.get(name, ""),
        }
        | {f"classes/{split}": counts[split][label] for split in splits}
        for label, name in enumerate(store.classes)
    ]
    split_fields = [
        _field("splits/name", "sc:Text", "Name."),
        _field("splits/url", ["sc:URL", "cr:Split"], "Meaning."),
    ]
    split_records = [
        {"splits/name": split, "splits/url": _SPLIT_TERMS[split]} for split in splits
    ]
    chip_fields = []
    for name, description in COLUMN_DESCRIPTIONS.items():
        if name in store.table and _tally(store.table[name]):
            if name in ("spacing_m", "incidence_deg", "box"):
                kind = "sc:Float"
            else:
                kind = "sc:Text"
            field = _field(
                f"chips/{name}",
                ["sc:Text", "cr:Label"] if name == "class" else kind,
                description,
            )
            source = {"fileObject": {"@id": MANIFEST}, "extract": {"column": name}}
            chip_fields.append(
                field | {"source": source} | _COLUMN_PROPERTIES.get(name, {})
            )
    return [
        _node("cr:RecordSet", "splits", "Splits of the chips.")
        | {
            "key": {"@id": "splits/name"},
            "field": split_fields,
            "dataType": "cr:Split",
            "data": split_records,
        },
        _node("cr:RecordSet", "classes", "Classes of the chips.")
        | {
            "key": {"@id": "classes/name"},
            "field": class_fields,
            "dataType": "sc:Enumeration",
            "data": classes,
        },
        _node("cr:RecordSet", "chips", "One record per chip.")
        | {
            "key": {"@id": "chips/path"},
            "field": chip_fields,
        },
    ]


def _node(kind: str, identifier: str, description: str) -> Node:
    name = identifier.rpartition("/")[2]
    return {"@type": kind, "@id": identifier, "name": name, "description": description}


def _field(identifier: str, data_type: str | list[str], description: str) -> Node:
    return _node("cr:Field", identifier, description) | {"dataType": data_type}


def _tally(column: pd.Series[Any]) -> str:
    """Return the values of a column with their numbers of rows, or ""."""
    values = column[column.notna()].astype(str)
    return ", ".join(
        f"{name} {count:,}"
        for name, count in sorted(values[values != ""].value_counts().items())
    )


def _list_biases(store: ChipStore, splits: Sequence[str]) -> Iterator[str]:
    """List the smallest and largest class, and the scenes, of each split.

    Vessels are counted in place of scenes if they are known.
    """
    counts = store.counts
    for split in splits:
        scenes = store.split(split)["group_key"].replace("", None).nunique()
        sizes = {name: count for name, count in counts[split].items() if count}
        most = max(sizes, key=sizes.__getitem__)
        fewest = min(sizes, key=sizes.__getitem__)
        text = (
            f"{sizes[fewest]:,} ({fewest}) to {sizes[most]:,} ({most}), ratio"
            f" {sizes[most] / sizes[fewest]:.3g}"
        )
        if sizes[most] == sizes[fewest]:
            text = f"{sizes[most]:,} (classes: {len(sizes):,})"
        yield (
            f"Chips per class in {split}: {text}. Scenes or vessels:"
            f" {scenes or 'unknown'}."
        )
    for split, names in missing_classes(counts).items():
        yield f"Without a chip in {split}: {list_first_names(names)}."


def _list_limitations(store: ChipStore) -> Iterator[str]:
    """List faults of the audit, license restrictions, and suggested labels.

    A classifier suggested these labels.
    """
    path = store.root / AUDIT_FILE
    audits = read_audits(path) if path.is_file() else []
    if audits:
        audit = audits[0]
        audited = Counter[tuple[str, str]]()
        for label, origins in audit.classes.items():
            for counts in origins.values():
                audited.update(
                    {(label, split): count for split, count in counts.items()}
                )
        if audited != Counter(
            zip(store.table["class"], store.table["split"], strict=True)
        ):
            raise DataError(
                "the audit describes other chips than the manifest",
                path,
                f"run `rsft audit {store.root}` again",
            )
        for finding in (finding for finding in audit.findings if finding.count):
            if finding.total is None:
                total = ""
            else:
                total = f" of {finding.total:,}"
            if finding.examples:
                examples = f", such as {', '.join(finding.examples[:_EXAMPLES])}"
            else:
                examples = ""
            yield (
                f"The audit found {finding.description}:"
                f" {finding.count:,}{total}{examples}."
            )
        absent = [
            finding.description for finding in audit.findings if not finding.count
        ]
        if absent:
            yield f"The audit found none of these: {'; '.join(absent)}."
    else:
        yield (
            "The chips were not audited. Duplicates, leaks between splits and"
            " contradictory labels are unknown."
        )
    restrictions = license_restrictions(store.license)
    if UNKNOWN in restrictions:
        yield f"The restrictions of the license are unknown (license: {store.license})."
    else:
        meanings = "; ".join(f"{name} ({RESTRICTIONS[name]})" for name in restrictions)
        yield f"Restrictions of the license: {meanings or 'none that rsft knows'}."
    suggested = (
        store.table.get("added_bundle", pd.Series(dtype=object))
        .replace("", None)
        .notna()
        .sum()
    )
    if suggested:
        yield (
            f"{suggested:,} labels were given after a classifier had predicted a class,"
            " and may depend on it."
        )
