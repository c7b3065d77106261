"""Detect objects in scenes, and cut their chips."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import pandas as pd

from rsft.errors import DataError
from rsft.inference.options import PredictionRequest
from rsft.inference.predict.result_table import select_columns
from rsft.inference.predict.scene_chips import SceneChips, in_block_order
from rsft.inference.writers.columns import table_columns
from rsft.inference.writers.layer import (
    CLASS_COLUMN,
    PredictionLayer,
    creation_metadata,
)
from rsft.scenes.detection import describe_scene_pixels
from rsft.scenes.locations import SceneLocations
from rsft.scenes.options import UNDECLARED, ChipOptions, ChipSize, Declaration
from rsft.scenes.preparation.builder import open_scenes
from rsft.scenes.query import CfarOptions, Query
from rsft.scenes.raster import RasterScene, gdal_environment
from rsft.scenes.windows import fit_size, make_window
from rsft.types import LONLAT, JsonObject, Progress

OBJECT = "object"
"""Class of a detected object, until somebody names it."""


@dataclass(frozen=True)
class DetectionRequest:
    """How objects are detected.

    Attributes:
        detector: options of the detector.
        declaration: unit, bands and pixel spacing of the scenes, if their files do not
            state them.
        size: size of the chips; None fits the boxes.
        chips_dir: folder of the chips; None cuts none.
    """

    detector: CfarOptions = field(default_factory=CfarOptions)
    declaration: Declaration = UNDECLARED
    size: ChipSize | None = None
    chips_dir: Path | None = None


def detect_in_scenes(
    sources: Sequence[Path],
    request: DetectionRequest,
    detect: Callable[[RasterScene], SceneLocations],
    progress: Progress | None = None,
) -> PredictionLayer:
    """Detect objects in scenes, and cut their chips.

    The chips have the size of those that `rsft prepare scenes` cuts.

    Args:
        sources: files, folders, patterns and lists of scenes.
        request: how objects are detected.
        detect: detects the objects of a scene.
        progress: called with numbers of scenes.

    Returns:
        The layer, with one row per object of the class `OBJECT`.

    Raises:
        RequestError: an option contradicts a scene.
        DataError: a scene cannot be read.
    """
    scene_objects = []
    notes = []
    rows = []
    with gdal_environment():
        for scene in open_scenes(sources, request.declaration.unit, progress):
            objects = detect(scene)
            scene_objects.append((scene, objects))
            notes += objects.notes
        locations = [objects.locations for _, objects in scene_objects]
        size = request.size or fit_size(chain.from_iterable(locations))
        notes.append(f"size of the chips: {size}")
        crs: str | None = LONLAT
        if all(scene.georeference is None for scene, _ in scene_objects):
            crs = None
        for scene, objects in scene_objects:
            chips = _open_chips(scene, objects, request, size, crs is None)
            with closing(chips):
                rows += _read_rows(chips, request.chips_dir is not None, notes)
    table = select_columns(pd.DataFrame(rows), table_columns(()))
    metadata = {
        "scenes": [str(scene.path) for scene, _ in scene_objects],
        **creation_metadata(),
        "notes": notes,
    }
    return PredictionLayer(table, crs, (OBJECT,), metadata)


def _open_chips(
    scene: RasterScene,
    objects: SceneLocations,
    request: DetectionRequest,
    size: ChipSize,
    in_pixels: bool,
) -> SceneChips:
    declaration, spec, _ = describe_scene_pixels(scene, request.declaration)
    options = ChipOptions(size, spacing=declaration.spacing_m)
    cutting = PredictionRequest(
        Query(detect=request.detector),
        declaration,
        options,
        chips_dir=request.chips_dir,
    )
    window = make_window(scene, options)
    locations = in_block_order(scene, objects.locations)
    return SceneChips(scene, locations, spec, window, cutting, in_pixels)


def _read_rows(
    chips: SceneChips, has_chips: bool, notes: list[str]
) -> list[JsonObject]:
    """Return the columns of each object, and save its chip if chips are wanted."""
    rows = []
    faults = []
    for number in range(len(chips)):
        row = chips.columns(number)
        if has_chips:
            try:
                row = chips.read(number).columns
            except DataError as error:
                faults.append(f"{row['chip']}: {error.message}")
        rows.append(row | {CLASS_COLUMN: OBJECT})
    if faults:
        notes.append(f"objects without a chip: {len(faults):,}, such as {faults[0]}")
    return rows
