"""Record sets of the description: the chips of the manifest, their classes and their splits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from rsft.data.chips.manifest_columns import SPLITS
from rsft.data.chips.store import MANIFEST, ChipStore

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
