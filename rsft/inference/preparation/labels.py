"""The labeled objects of scenes, and what became of all other labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from rsft.data.annotations.base import AT
from rsft.data.annotations.images import NoAnnotationsError, list_annotation_files
from rsft.data.chips.record import describe_rejections
from rsft.data.chips.store import SPLITS, list_first_names
from rsft.data.datasets.formats.label_rows import describe_row_fault
from rsft.data.datasets.splits import split_groups
from rsft.errors import RecipeError, RequestError
from rsft.inference.preparation.placement import (
    ChipSize,
    common_spacing_of,
    draw_background,
)
from rsft.recipe.text import read_document
from rsft.scenes.locations import (
    ChipWindow,
    Location,
    SceneLocations,
    read_positions,
)
from rsft.scenes.locators import LOCATORS, MATCHED, UNKNOWN, NothingInSceneError
from rsft.scenes.raster import RasterScene
from rsft.types import Progress, Rejection

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
    """Return the class of each type in lower case, from a file of lists of types by class."""
    if path is None:
        return None
    document = read_document(path)
    if document.faults:
        raise RecipeError(document.faults)
    class_of: dict[str, str] = {}
    for name, value in document.values.items():
        types = value if isinstance(value, list) else [value]
        if not all(isinstance(kind, str | int) for kind in types):
            raise RequestError(
                f"the types of {name} are not a list",
                path,
                'write: cargo: [Cargo, "70"]',
            )
        for kind in types:
            other = class_of.setdefault(str(kind).lower(), str(name))
            if other != str(name):
                raise RequestError(
                    f"{kind} is in two classes, {other} and {name}", path, "choose one"
                )
    return class_of


class LabeledObject(NamedTuple):
    """An object in a scene, or the place of a background chip, which has no `source_row`."""

    scene: RasterScene
    location: Location
    label: str
    vessel: str = ""
    split: str = ""
    confidence: float | None = None  # of a match with AIS


class LabeledObjects:
    """The labeled objects of scenes, and what became of all other labels.

    Args:
        labels: file or folder of the labels, or of AIS messages.
        field: field of the class; None looks for one of `CLASS_FIELDS`.
        types: class by type in lower case; None takes the types as classes.
        min_side: minimum side of a box in pixels.

    Attributes:
        found: the objects, scene by scene.
        rejected: labels that cannot be used.
        skipped: number of labels that were left out on purpose, by reason.
        notes: what was chosen.
    """

    def __init__(
        self,
        labels: Path,
        field: str | None,
        types: dict[str, str] | None,
        min_side: int,
    ) -> None:
        self.labels = labels
        self.field = field
        self.types = types
        self.min_side = min_side
        self.found: list[LabeledObject] = []
        self.rejected: list[Rejection] = []
        self.skipped = Counter[str]()
        self.notes = list[str]()
        self.scenes = 0
        self._without_sources: list[NothingInSceneError] = []
        self._title = ""  # of the locator
        self._files: set[Path] = set()
        self._ranges = ""  # where the labels outside of the scenes lie
        self._inside = Counter[tuple[Path, int | None]]()
        self._outside = set[tuple[Path, int | None]]()  # file and row

    @property
    def classes(self) -> list[str]:
        """The classes: in the order of the file of types, else by name; the background last."""
        present = {item.label for item in self.found}
        if self.types:
            order = list(dict.fromkeys(self.types.values()))
        else:
            order = sorted(present - {BACKGROUND})
        return [
            *(name for name in order if name in present),
            *([BACKGROUND] if BACKGROUND in present else []),
        ]

    def read(
        self,
        scene: RasterScene,
        layer: str | None,
        crs: str | None,
        columns: Mapping[str, str] | None = None,
    ) -> None:
        """Add the objects of a scene; the arguments are those of `read_positions`.

        Raises:
            RequestError: the labels cannot be read, or have no field with the class.
        """
        self.scenes += 1
        try:
            positions = read_positions(self.labels, scene, crs, layer, columns)
        except NoAnnotationsError:
            self.skipped["scene without labels"] += 1
            return
        self._files.add(positions.file)
        self.rejected = list(
            dict.fromkeys([*self.rejected, *positions.rejected])
        )  # one file may be of several scenes
        self.notes += [
            note for note in positions.notes if "positions outside of" not in note
        ]
        assert positions.attributes is not None
        rows = positions.attributes
        fields = (
            self._find_field(rows),
            *(_find(rows, name) for name in ("mmsi", "split")),
        )
        if positions.outside:
            self._ranges = positions.describe_ranges(scene)
        self._outside.update((positions.file, row) for row in positions.outside)
        for location in positions.locations:
            self._inside[positions.file, location.source_row] += 1
            row = rows.loc[location.source_row]
            texts = (
                "" if field is None or pd.isna(row[field]) else str(row[field]).strip()
                for field in fields
            )
            kind, vessel, split = texts
            self._add(
                LabeledObject(scene, location, kind, vessel, split), positions.file
            )

    def match(
        self,
        scene: RasterScene,
        name: str,
        find_objects: Callable[[], SceneLocations],
        min_confidence: float,
        progress: Progress | None = None,
    ) -> None:
        """Add the objects of a scene whose class a locator names.

        A scene of which it has nothing is left out, and is not searched.

        Args:
            scene: the scene.
            name: name of the locator.
            find_objects: detects objects.
            min_confidence: smallest confidence of an object.
            progress: called while the source of the locator is read.
        """
        self.scenes += 1
        locator = LOCATORS[name]()
        try:
            positions = locator.locate(
                scene, self.labels, find_objects, min_confidence, progress
            )
        except NothingInSceneError as error:
            self._without_sources.append(error)
            self._title = locator.title
            self.skipped[f"scene without {locator.title}"] += 1
            self.notes.append(f"{scene.path.name} is left out: {error.message}")
            return
        self.notes += positions.notes
        self.skipped += positions.skipped
        assert positions.attributes is not None
        columns = [
            positions.attributes[f"{name}_{column}"]
            for column in ("status", "class", "mmsi", "confidence")
        ]
        for location, status, label, mmsi, confidence in zip(
            positions.locations, *columns, strict=True
        ):
            if status != MATCHED:
                self.skipped[f"detected object, {status}"] += 1
            elif label == UNKNOWN:
                self.skipped["object of unknown type"] += 1
            else:
                item = LabeledObject(
                    scene, location, label, str(mmsi), confidence=float(confidence)
                )
                self._add(item, self.labels)

    def finish(self) -> None:
        """Count the labels outside of all scenes.

        Raises:
            RequestError: no label can be used, or the locator has nothing in any scene.
        """
        if self._without_sources and len(self._without_sources) == self.scenes:
            error = self._without_sources[0]
            message = (
                f"none of the scenes ({self.scenes:,}) has {self._title}; the first one:"
                f" {error.message}"
            )
            raise NothingInSceneError(message, error.location, error.hint)
        unused = (
            set(list_annotation_files(self.labels)) - self._files
            if self._files and self.labels.is_dir()
            else ()
        )
        self.skipped |= (
            {"file of labels without a scene": len(unused)} if unused else {}
        )
        outside = self._outside - set(self._inside)
        if outside:
            self.skipped["label outside of all scenes"] = len(outside)
        shared = sum(count > 1 for count in self._inside.values())
        if shared:
            hint = (
                "if the objects move, give a folder with one file of labels per scene"
            )
            self.notes.append(
                f"{shared:,} labels lie in several scenes, and give a chip in each one;"
                f" {hint}"
            )
        if not self.found:
            raise self._error()

    def _find_field(self, rows: pd.DataFrame) -> str:
        wanted = (self.field,) if self.field else CLASS_FIELDS
        name = next(filter(None, (_find(rows, name) for name in wanted)), None)
        if name is None:
            listed = ", ".join(str(name) for name in rows if name != AT) or "none"
            if self.field:
                message = f"the labels have no field {self.field}"
            else:
                message = "no field of the labels is the class"
            raise RequestError(
                f"{message}; their fields are {listed}",
                self.labels,
                "name it with --field",
            )
        self.notes.append(f"class: the field {name} of {self.labels.name}")
        return name

    def _add(self, item: LabeledObject, file: Path) -> None:
        """Add an object whose label is a type, or count why it is left out."""
        if self.types is not None:
            label = self.types.get(item.label.lower(), "")
        else:
            label = item.label
        if item.label and not label:
            self.skipped[
                f"type {item.label}, which the file of types does not have"
            ] += 1
        elif fault := self._describe_fault(item._replace(label=label)):
            self.rejected.append((str(file), item.location.source_row or 0, fault))
        else:
            self.found.append(item._replace(label=label, split=item.split.lower()))

    def _describe_fault(self, item: LabeledObject) -> str:
        if not item.label:
            return "the label has no class"
        if item.label == BACKGROUND:
            return f"{BACKGROUND} is the class of --background"
        fault = describe_row_fault("chip", item.label)
        if fault or item.location.extent is None:
            return fault
        area = ChipWindow(
            None, 0, (1.0, 1.0), (item.scene.height, item.scene.width)
        ).window_at(item.location)
        height = area.bottom - area.top
        width = area.right - area.left
        is_small = min(height, width) < self.min_side
        return (
            f"the box has {width} x {height} pixels; the minimum side is"
            f" {self.min_side}"
            if is_small
            else ""
        )

    def _error(self) -> RequestError:
        """Return the error for labels of which none can be used."""
        if self._files and not (self.rejected or self.skipped or self._inside):
            hint = "give a file with one row for each object"
            return RequestError(
                "the labels are empty: the file has no rows", self.labels, hint
            )
        reasons = [
            describe_rejections(self.rejected),
            *(f"{count:,} x {x}" for x, count in self.skipped.items()),
        ]
        if self._outside and not self._inside:
            ranges = [self._ranges]
        else:
            ranges = []
        hint = "; ".join(filter(None, [*ranges, *reasons, *dict.fromkeys(self.notes)]))
        return RequestError(
            f"no label can be used in {self.scenes:,} scenes", self.labels, hint
        )

    def windows(self, size: ChipSize, spacing: float | None) -> dict[str, ChipWindow]:
        """Return the window of chips by the name of the scene, and note a size that the boxes decided.

        Args:
            size: the size that the user gave.
            spacing: pixel spacing in meters of scenes without a georeference.

        Returns:
            The windows; each scene has one.
        """
        fitted = size.fit([item.location for item in self.found])
        if fitted != size:
            if any(item.location.box for item in self.found):
                reason = "by the boxes"
            else:
                reason = "because labels are points"
            size_text = f"{fitted.pixels} x {fitted.pixels} pixels, {reason}"
            self.notes.append(
                f"chips of {size_text}: --chip-size and --margin change this"
            )
        scenes = {item.scene.name: item.scene for item in self.found}
        oblong = [
            x.path.name
            for x in scenes.values()
            if x.spacing and common_spacing_of(x, spacing) is None
        ]
        if oblong:
            self.notes.append(
                "pixels are not square, so that no spacing is stored:"
                f" {list_first_names(oblong)}"
            )
        has_points = any(item.location.box is None for item in self.found)
        return {
            name: fitted.window(items[0].scene, spacing, has_points)
            for name, items in self._by_scene().items()
        }

    def _by_scene(self) -> dict[str, list[LabeledObject]]:
        return {
            name: list(items)
            for name, items in groupby(self.found, lambda item: item.scene.name)
        }

    def add_background(
        self, windows: Mapping[str, ChipWindow], count: int, seed: int
    ) -> None:
        """Add places of background chips, in random positions of each scene with labels."""
        found: list[LabeledObject] = []
        for name, items in self._by_scene().items():
            places = draw_background(
                items[0].scene,
                windows[name],
                [item.location for item in items],
                count,
                seed,
            )
            found += [
                *items,
                *(LabeledObject(items[0].scene, place, BACKGROUND) for place in places),
            ]
            if len(places) < count:
                self.notes.append(
                    f"{name}: room for {len(places)} of {count} background chips"
                )
        self.found = found  # scene by scene: one worker process reads a scene


def _find(rows: pd.DataFrame, name: str) -> str | None:
    """Return the column of a name in any case."""
    return next(
        (str(column) for column in rows if str(column).lower() == name.lower()), None
    )


def assign_splits(
    objects: Sequence[LabeledObject], by: str, shares: Mapping[str, float], seed: int
) -> list[str]:
    """Return the split of each object.

    Args:
        objects: the objects.
        by: "scene", "vessel", "object" or "given".
        shares: share of each split.
        seed: seed of random choices.

    Returns:
        The splits, in the order of the objects.

    Raises:
        RequestError: there is one group only, a label without a vessel, or a label
            without a split.
    """
    if by == "given":
        return [_given_split(item) for item in objects]
    if by == "vessel" and not any(item.vessel for item in objects):
        raise RequestError("the labels have no field mmsi", "--split", "choose scene")
    groups = [
        item.location.name if by == "object" else group_of(item, by) for item in objects
    ]
    wanted = [name for name, share in shares.items() if share > 0]
    if len(set(groups)) < len(wanted):
        raise RequestError(
            (
                f"{len(set(groups))} {by}{'s' * (len(set(groups)) > 1)} cannot be divided"
                f" between {', '.join(wanted)}"
            ),
            "--split",
            "give more scenes, or --split object",
        )
    split_of = split_groups([item.label for item in objects], groups, shares, seed)
    return [split_of[group] for group in groups]


def group_of(item: LabeledObject, by: str) -> str:
    """Return the group that is in one split: the scene, or the vessel; a label without a vessel goes with its scene."""
    if by == "vessel" and item.vessel:
        return item.vessel
    return item.scene.name


def _given_split(item: LabeledObject) -> str:
    folders = [part.lower() for part in reversed(Path(item.scene.path.text).parts)]
    split = item.split or next((name for name in folders if name in SPLITS), "")
    if split not in SPLITS:
        if split:
            message = f"the split of a label is {split!r}"
        else:
            message = "a label has no split"
        raise RequestError(
            message,
            item.scene.path,
            (
                "give a field split with train, val or test, or put the scenes in folders"
                " of these names"
            ),
        )
    return split
