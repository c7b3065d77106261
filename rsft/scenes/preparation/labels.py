"""The labeled objects of scenes, and what became of all other labels."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from rsft.data.annotations.base import AT
from rsft.data.annotations.columns import normalize_label
from rsft.data.annotations.images import list_annotation_files
from rsft.data.chips.record import describe_rejections
from rsft.data.datasets.formats.label_rows import describe_row_fault
from rsft.data.datasets.rare_classes import OTHER, RareClasses, resolve_rare
from rsft.errors import RecipeError, RequestError
from rsft.recipe.text import read_document
from rsft.scenes.locations import Location, SceneLocations
from rsft.scenes.locators import MATCHED, UNKNOWN
from rsft.scenes.raster import RasterScene
from rsft.scenes.windows import ChipWindow
from rsft.types import Rejection

BACKGROUND = "background"
"""Class of the chips away from all objects."""

CLASS_FIELDS = (
    "class",
    "category",
    "label",
    "type",
    "ship_type",
    "vessel_type",
    "name",
)
"""Fields of labels that may contain the class; the first one that the labels have is
used."""


def read_types(path: Path | None) -> dict[str, str] | None:
    """Return the class of each type in lower case, from lists of types by class.

    Raises:
        RecipeError: the file is no YAML.
        RequestError: the types of a class are no list, or a type has two classes.
    """
    if not path:
        return None
    document = read_document(path)
    if document.faults:
        raise RecipeError(document.faults)
    class_of: dict[str, str] = {}
    for name, value in document.values.items():
        types = value if isinstance(value, list) else [value]
        for kind in types:
            if not isinstance(kind, str | int):
                raise RequestError(
                    f"the types of {name} are not a list",
                    path,
                    'write: cargo: [Cargo, "70"]',
                )
            class_name = normalize_label(str(name))
            other = class_of.setdefault(normalize_label(str(kind)).lower(), class_name)
            if other != class_name:
                raise RequestError(
                    f"{kind} is in two classes, {other} and {name}", path, "choose one"
                )
    return class_of


class LabeledObject(NamedTuple):
    """An object in a scene, or the place of a background chip.

    Attributes:
        scene: the scene.
        location: where it is; a place has no `source_row`.
        label: its class, or a type that stands for one.
        vessel: identity of the vessel; "" if unknown.
        split: its split; "" if the labels have none.
        confidence: of a match by a locator.
    """

    scene: RasterScene
    location: Location
    label: str
    vessel: str = ""
    split: str = ""
    confidence: float | None = None


class LabeledObjects:
    """The labeled objects of scenes, and what became of all other labels.

    Args:
        labels: file or folder of the labels, or the source of a locator.
        field: field of the class; None looks for one of `CLASS_FIELDS`.
        types: class by type in lower case; None takes the types as classes.
        min_size: minimum side of a box in pixels.

    Attributes:
        objects: the objects, scene by scene.
        rejected: labels that cannot be used.
        skipped: number of labels that were left out on purpose, by reason.
        notes: what was chosen.
        scenes: number of scenes.
    """

    def __init__(
        self,
        labels: Path,
        field: str | None,
        types: dict[str, str] | None,
        min_size: int,
    ) -> None:
        self.labels = labels
        self.field = field
        self.types = types
        self.min_size = min_size
        self.objects: list[LabeledObject] = []
        self.rejected: list[Rejection] = []
        self.skipped = Counter[str]()
        self.notes: list[str] = []
        self.scenes = 0
        self._files: set[Path] = set()
        self._outside_note = ""
        self._inside = set[tuple[Path, int | None]]()  # files and rows
        self._outside = set[tuple[Path, int | None]]()

    @property
    def classes(self) -> list[str]:
        """The classes, the background last.

        The others are in the order of the file of types, else by name.
        """
        present = {item.label for item in self.objects}
        order = sorted(present - {BACKGROUND})
        if self.types:
            order = list(dict.fromkeys([*self.types.values(), OTHER]))
        return [name for name in [*order, BACKGROUND] if name in present]

    def add(self, scene: RasterScene, positions: SceneLocations) -> None:
        """Add the objects of a scene whose attributes name their class.

        Raises:
            RequestError: the labels have no field with the class.
        """
        self._files.add(positions.file)
        # one file may be of several scenes
        self.rejected = list(dict.fromkeys([*self.rejected, *positions.rejected]))
        notes = [note for note in positions.notes if note != positions.outside_note]
        self.notes += notes
        if positions.outside:
            self._outside_note = positions.outside_note
            self._outside.update((positions.file, row) for row in positions.outside)
        rows = positions.attributes
        assert rows is not None
        if rows.empty:
            return  # rejected rows may have no attributes
        fields = [self._find_field(rows), _find(rows, "mmsi"), _find(rows, "split")]
        for location, row in _pair(positions, rows):
            self._inside.add((positions.file, location.source_row))
            label, vessel, split = [_text(row, name) for name in fields]
            item = LabeledObject(scene, location, label, vessel, split)
            self._add(item, positions.file)

    def add_matched(
        self, scene: RasterScene, positions: SceneLocations, locator: str
    ) -> None:
        """Add the objects of a scene of which a locator says the class."""
        self.notes += positions.notes
        self.skipped += positions.skipped
        assert positions.attributes is not None
        for location, row in _pair(positions, positions.attributes):
            status = row[f"{locator}_status"]
            label = row[f"{locator}_class"]
            if status != MATCHED:
                self.skipped[f"detected object, {status}"] += 1
            elif label == UNKNOWN:
                self.skipped["object of unknown type"] += 1
            else:
                vessel = str(row[f"{locator}_mmsi"])
                confidence = float(row[f"{locator}_confidence"])
                item = LabeledObject(
                    scene, location, label, vessel, confidence=confidence
                )
                self._add(item, self.labels)

    def finish(self, rare: RareClasses | None) -> None:
        """Leave out repeated labels, and count those outside of all scenes.

        Args:
            rare: what becomes of rare classes; None keeps them.

        Raises:
            RequestError: no label can be used.
        """
        self._leave_out_repeated()
        self._resolve_rare(rare)
        if self._files and self.labels.is_dir():
            unused = set(list_annotation_files(self.labels)) - self._files
            if unused:
                self.skipped["file of labels without a scene"] = len(unused)
        outside = self._outside - self._inside
        if outside:
            self.skipped["label outside of all scenes"] = len(outside)
        if not self.objects:
            raise self._no_label_error()

    def _leave_out_repeated(self) -> None:
        """Keep one label of each object, and none of an object with several classes."""
        labels = defaultdict(list)
        for item in self.objects:
            location = item.location
            extent = location.extent or (location.row, location.col)
            key = (item.scene.name, *np.round(extent).tolist())
            labels[key].append(item)
        self.objects = []
        for items in labels.values():
            classes = sorted({item.label for item in items})
            if len(classes) > 1:
                fault = f"an object has the classes {', '.join(classes)}"
                for item in items:
                    row = item.location.source_row or 0
                    self.rejected.append((str(self.labels), row, fault))
                continue
            self.objects.append(items[0])
            if len(items) > 1:
                self.skipped["repeated label of an object"] += len(items) - 1

    def _resolve_rare(self, rare: RareClasses | None) -> None:
        labels = [item.label for item in self.objects]
        names = resolve_rare(labels, labels, rare)
        self.objects = [
            item._replace(label=names[item.label])
            for item in self.objects
            if item.label in names
        ]
        left_out = len(labels) - len(self.objects)
        if left_out:
            self.skipped["object of a rare class"] += left_out

    def by_scene(self) -> Iterator[tuple[RasterScene, list[LabeledObject]]]:
        """Yield each scene with its objects."""
        for _, items in groupby(self.objects, lambda item: item.scene.name):
            objects = list(items)
            yield objects[0].scene, objects

    def _find_field(self, rows: pd.DataFrame) -> str:
        for name in (self.field,) if self.field else CLASS_FIELDS:
            column = _find(rows, name)
            if column is not None:
                self.notes.append(f"class: the field {column} of {self.labels.name}")
                return column
        listed = ", ".join(str(name) for name in rows if name != AT) or "none"
        names = self.field or "with the class"
        message = f"the labels have no field {names}; their fields are {listed}"
        raise RequestError(message, self.labels, "name it with --field")

    def _add(self, item: LabeledObject, file: Path) -> None:
        """Add an object whose label is a type, or count why it is left out."""
        label = item.label
        if self.types is not None:
            label = self.types.get(label.lower(), "")
        if item.label and not label:
            reason = f"type {item.label}, which the file of types does not have"
            self.skipped[reason] += 1
            return
        item = item._replace(label=label, split=item.split.lower())
        fault = self._describe_fault(item)
        if fault:
            self.rejected.append((str(file), item.location.source_row or 0, fault))
        else:
            self.objects.append(item)

    def _describe_fault(self, item: LabeledObject) -> str:
        if not item.label:
            return "the label has no class"
        if item.label == BACKGROUND:
            return f"{BACKGROUND} is the class of --background"
        fault = describe_row_fault("chip", item.label)
        if fault or not item.location.extent:
            return fault
        scene = item.scene
        window = ChipWindow(side=None, limits=scene.size)
        height, width = window.window_at(item.location).size
        if min(height, width) >= self.min_size:
            return ""
        return (
            f"the box has {width} x {height} pixels; the minimum side is"
            f" {self.min_size}"
        )

    def _no_label_error(self) -> RequestError:
        """Return the error for labels of which none can be used."""
        if self._files and not (self.rejected or self.skipped or self._inside):
            message = "the labels are empty: the file has no rows"
            return RequestError(
                message, self.labels, "give a file with one row for each object"
            )
        reasons = [describe_rejections(self.rejected, self.skipped)]
        if self._outside and not self._inside:
            reasons.insert(0, self._outside_note)
        reasons += dict.fromkeys(self.notes)
        message = f"no label can be used in {self.scenes:,} scenes"
        return RequestError(message, self.labels, "; ".join(filter(None, reasons)))


def _pair(
    positions: SceneLocations, rows: pd.DataFrame
) -> Iterator[tuple[Location, dict[Any, Any]]]:
    """Return each location with its attributes."""
    return zip(positions.locations, rows.to_dict("records"), strict=True)


def _text(row: dict[Any, Any], field: str | None) -> str:
    if field is None or pd.isna(row[field]):
        return ""
    return normalize_label(str(row[field]))


def _find(rows: pd.DataFrame, name: str) -> str | None:
    """Return the column of a name in any case."""
    for column in rows:
        if str(column).lower() == name.lower():
            return str(column)
    return None
