"""Describe a chip store as Croissant, with the terms of GeoCroissant and of responsible AI.

Record sets of the description: the chips of the manifest, their classes and their splits.

Statements of the description on biases, limitations and origin of the chips, from the manifest and the audit.

Terms of Croissant 1.1 and its extensions for responsible AI (RAI) and for geospatial data (GeoCroissant).
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from rsft.data.audit.findings import AUDIT_FILE, AuditFinding, AuditResult, read_audits
from rsft.data.chips.store import MANIFEST, SPLITS, ChipStore
from rsft.data.chips.summary import count_chips, list_first_names, missing_classes
from rsft.errors import DataError, RequestError
from rsft.utils.atomic_files import sha256, write_text
from rsft.utils.licenses import RESTRICTIONS, UNKNOWN, license_restrictions

Node = dict[str, Any]
"""A node of JSON-LD."""

_SPLIT_TERMS = dict(zip(SPLITS, ("cr:TrainingSplit", "cr:ValidationSplit", "cr:TestSplit"), strict=True))
_REFERENCES = {"class": "classes/name", "split": "splits/name"}
_EQUIVALENTS = {"path": "sc:contentUrl", "sha256": "sc:sha256", "spacing_m": "geocr:spatialResolution"}

COLUMN_DESCRIPTIONS: Mapping[str, str] = {
    "name": "Name of the chip, unique within its split and class.",
    "path": "Path of the image file, relative to this description.",
    "split": "Split of the chip.",
    "class": "Class of the object in the chip.",
    "group": "Group of the class by its number of training chips: head, medium or tail.",
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
    "added_bundle": "SHA-256 of the bundle that had classified the chip before it was labeled.",
    "added_predicted": "Class that this bundle had predicted.",
    "added_previous": "Class of the chip before.",
    "added_on": "Date and time of the label.",
}
"""Meaning of the columns of a manifest; other columns are not described."""


def make_record_sets(store: ChipStore, splits: Sequence[str]) -> list[Node]:
    """Describe the splits, the classes with their numbers of chips, and the chips.

    Args:
        store: the chip store.
        splits: the splits that have chips.

    Returns:
        Three nodes of type cr:RecordSet: "splits", "classes" and "chips". The first two contain their records.

    Example:
        >>> from pathlib import Path
        >>> [node["@id"] for node in make_record_sets(ChipStore.open(Path("data/ships")), ["train", "val", "test"])]
        ['splits', 'classes', 'chips']
    """
    return [_splits(splits), _classes(store, splits), _chips(store.table)]


def _splits(splits: Sequence[str]) -> Node:
    fields = [_field("splits/name", "sc:Text", "Name."), _field("splits/url", ["sc:URL", "cr:Split"], "Meaning.")]
    data = [{"splits/name": split, "splits/url": _SPLIT_TERMS[split]} for split in splits]
    return _record_set("splits", "Splits of the chips.", "splits/name", fields, dataType="cr:Split", data=data)


def _classes(store: ChipStore, splits: Sequence[str]) -> Node:
    counts = {split: store.class_counts(split).tolist() for split in splits}
    groups = {name: group for group, names in store.groups.items() for name in names}
    fields = [
        _field("classes/name", "sc:Text", "Name."),
        _field("classes/label", "sc:Integer", "Index of the class in a classifier, from 0."),
        _field("classes/group", "sc:Text", COLUMN_DESCRIPTIONS["group"]),
        *(_field(f"classes/{split}", "sc:Integer", f"Number of chips in the split {split}.") for split in splits),
    ]
    data = [
        {"classes/name": name, "classes/label": label, "classes/group": groups.get(name, "")}
        | {f"classes/{split}": counts[split][label] for split in splits}
        for label, name in enumerate(store.classes)
    ]
    return _record_set("classes", "Classes of the chips.", "classes/name", fields, dataType="sc:Enumeration", data=data)


def _chips(table: pd.DataFrame) -> Node:
    fields = [_column_field(name) for name in COLUMN_DESCRIPTIONS if name in table and _is_filled(table[name])]
    return _record_set("chips", "One record per chip.", "chips/path", fields)


def _is_filled(column: pd.Series[Any]) -> bool:
    """Return whether any cell has a value; a column without one is not described."""
    return bool((column.notna() & (column.astype(str) != "")).any())


def _column_field(name: str) -> Node:
    kind = "sc:Float" if name in ("spacing_m", "incidence_deg", "box") else "sc:Text"
    field = _field(f"chips/{name}", ["sc:Text", "cr:Label"] if name == "class" else kind, COLUMN_DESCRIPTIONS[name])
    field["source"] = {"fileObject": {"@id": MANIFEST}, "extract": {"column": name}}
    if name in _REFERENCES:
        field["references"] = {"field": {"@id": _REFERENCES[name]}}
    if name in _EQUIVALENTS:
        field["equivalentProperty"] = _EQUIVALENTS[name]
    return field | ({"isArray": True, "arrayShape": "8"} if name == "box" else {})


def _field(identifier: str, data_type: str | list[str], description: str) -> Node:
    name = identifier.rpartition("/")[2]
    return {"@type": "cr:Field", "@id": identifier, "name": name, "description": description, "dataType": data_type}


def _record_set(name: str, description: str, key: str, fields: list[Node], **properties: Any) -> Node:
    node = {"@type": "cr:RecordSet", "@id": name, "name": name, "description": description, "key": {"@id": key}}
    return node | {"field": fields} | properties


_EXAMPLES = 3


def list_biases(store: ChipStore, splits: Sequence[str]) -> list[str]:
    """List the smallest and the largest class, and the number of scenes or vessels, of each split.

    Args:
        store: the chip store.
        splits: the splits that have chips.

    Returns:
        Sentences.

    Example:
        >>> from pathlib import Path
        >>> list_biases(ChipStore.open(Path("data/ships")), ["train"])[0]
        'Chips per class in train: 4 (tanker) to 12 (cargo), ratio 3. Scenes or vessels: unknown.'
    """
    counts = count_chips(store)
    sentences = []
    for split in splits:
        scenes = store.split(split)["group_key"].replace("", None).nunique()
        sizes = _compare_sizes(counts[split])
        sentences.append(f"Chips per class in {split}: {sizes}. Scenes or vessels: {scenes or 'unknown'}.")
    for split, names in missing_classes(counts).items():
        sentences.append(f"Without a chip in {split}: {list_first_names(names)}.")
    return sentences


def list_limitations(store: ChipStore, audit: AuditResult | None) -> list[str]:
    """List the faults that the audit found, and what the license restricts.

    Args:
        store: the chip store.
        audit: result of its audit; None if it was not audited.

    Returns:
        Sentences.

    Example:
        >>> from pathlib import Path
        >>> list_limitations(ChipStore.open(Path("data/ships")), None)[1]
        'The restrictions of the license are unknown (license: unknown).'
    """
    return [*_audit_sentences(audit), _license_sentence(store.license), *_label_sentences(store)]


def describe_sources(store: ChipStore) -> str:
    """Return the number of chips of each data set and each sensor, or "unknown".

    Args:
        store: the chip store.

    Example:
        >>> from pathlib import Path
        >>> describe_sources(ChipStore.open(Path("data/ships")))
        'Chips by source: chips 63. Chips by sensor: unknown.'
    """
    parts = []
    for column in ("source", "sensor"):
        tally = store.table[column].replace("", None).value_counts()
        names = ", ".join(f"{name} {count:,}" for name, count in sorted(tally.items()))
        parts.append(f"Chips by {column}: {names or 'unknown'}.")
    return " ".join(parts)


def describe_selection(store: ChipStore) -> str:
    """Return how many inputs of the build became chips, and why others did not.

    Args:
        store: the chip store.

    Example:
        >>> from pathlib import Path
        >>> describe_selection(ChipStore.open(Path("data/ships")))
        'Chips: 63. Inputs left out: none.'
    """
    reasons = [f"{count:,} skipped ({reason})" for reason, count in store.skipped.items()]
    reasons += [f"{store.rejected:,} rejected as unusable"] if store.rejected else []
    return f"Chips: {len(store.table):,}. Inputs left out: {'; '.join(reasons) or 'none'}."


def _compare_sizes(counts: Mapping[str, int]) -> str:
    sizes = {name: count for name, count in counts.items() if count}
    most, fewest = max(sizes, key=sizes.__getitem__), min(sizes, key=sizes.__getitem__)
    if sizes[most] == sizes[fewest]:
        return f"{sizes[most]:,} (classes: {len(sizes):,})"
    return f"{sizes[fewest]:,} ({fewest}) to {sizes[most]:,} ({most}), ratio {sizes[most] / sizes[fewest]:.3g}"


def _audit_sentences(audit: AuditResult | None) -> Iterator[str]:
    if audit is None:
        yield "The chips were not audited. Duplicates, leaks between splits and contradictory labels are unknown."
        return
    yield from (_finding_sentence(finding) for finding in audit.findings if finding.count)
    absent = [finding.description for finding in audit.findings if not finding.count]
    if absent:
        yield f"The audit found none of these: {'; '.join(absent)}."


def _finding_sentence(finding: AuditFinding) -> str:
    total = "" if finding.total is None else f" of {finding.total:,}"
    examples = f", such as {', '.join(finding.examples[:_EXAMPLES])}" if finding.examples else ""
    return f"The audit found {finding.description}: {finding.count:,}{total}{examples}."


def _license_sentence(text: str) -> str:
    restrictions = license_restrictions(text)
    if UNKNOWN in restrictions:
        return f"The restrictions of the license are unknown (license: {text})."
    meanings = "; ".join(f"{name} ({RESTRICTIONS[name]})" for name in restrictions)
    return f"Restrictions of the license: {meanings or 'none that rsft knows'}."


def _label_sentences(store: ChipStore) -> Iterator[str]:
    if "added_bundle" not in store.table:
        return
    count = int(store.table["added_bundle"].replace("", None).notna().sum())
    if count:
        yield f"{count:,} labels were given after a classifier had predicted a class, and may depend on it."


CROISSANT_FILE = "croissant.json"
"""File name of the description in a chip store."""

CONFORMS_TO = (
    "http://mlcommons.org/croissant/1.1",
    "http://mlcommons.org/croissant/RAI/1.0",
    "http://mlcommons.org/croissant/geo/1.0",
)
"""Specifications that the description follows."""

_CROISSANT_TERMS = (
    *("arrayShape", "citeAs", "column", "containedIn", "equivalentProperty", "excludes", "extract", "field"),
    *("fileObject", "fileProperty", "fileSet", "format", "includes", "isArray", "isLiveDataset", "jsonPath", "key"),
    *("md5", "parentField", "path", "readLines", "recordSet", "references", "regex", "repeated", "replace"),
    *("samplingRate", "sdVersion", "separator", "source", "subField", "transform", "unArchive", "value"),
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
"""JSON-LD context of the description. It is in the file, so that nobody needs the network to read it."""


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
