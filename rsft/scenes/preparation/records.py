"""The records of chips that are cut from scenes, for a chip store."""

from __future__ import annotations

from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from rsft.data.chips.record import ChipRecord
from rsft.data.imagery.chip_spec import SPACING_TOLERANCE
from rsft.data.imagery.reader import check_values
from rsft.scenes.chip_size import resolve_spacing
from rsft.scenes.lengths import box_sides
from rsft.scenes.locations import Location
from rsft.scenes.options import ChipOptions
from rsft.scenes.preparation.labels import BACKGROUND, LabeledObject
from rsft.scenes.raster import PixelWindow, RasterScene, open_scene
from rsft.scenes.reader import SceneReader
from rsft.scenes.windows import ChipWindow, cut_chip
from rsft.types import Bands, Box, JsonObject, Pixels


def make_record(
    item: LabeledObject,
    window: ChipWindow,
    split: str,
    group: str,
    *,
    labels: Path,
    bands: Bands | None,
    options: ChipOptions,
) -> ChipRecord:
    """Make the record of a chip, whose pixels are cut when it is stored.

    Args:
        item: the object.
        window: size of the chips of its scene.
        split: its split.
        group: key of the chips that must be in the same split.
        labels: file or folder of its label.
        bands: bands to store, or names of all bands.
        options: pixel spacing of a scene without a georeference.

    Returns:
        The record, with the columns of the manifest.
    """
    scene = item.scene
    location = item.location
    path = scene.path.path
    assert path is not None
    area = window.window_at(location)
    columns = _describe_scene(scene, location, options)
    columns["group_key"] = group
    columns["mmsi"] = item.vessel
    columns["ais_confidence"] = item.confidence
    columns["flags"] = "" if area.is_inside(scene.height, scene.width) else "edge"
    if location.box and item.label != BACKGROUND:
        columns |= _describe_box(scene, location.box, area, options)
    return ChipRecord(
        name=location.name,
        split=split,
        label=item.label,
        source_path=path,
        read_pixels=partial(_cut, str(scene.path), scene.unit, window, location),
        line=location.source_row or 0,
        bands=scene.bands,
        extra_columns={
            name: value
            for name, value in columns.items()
            if value is not None and value == value
        },
        image_paths=(labels,),
        selected_bands=bands,
    )


def _describe_scene(
    scene: RasterScene, location: Location, options: ChipOptions
) -> JsonObject:
    """Return the columns of the manifest that say where and when a chip was taken."""
    product = scene.product
    columns: JsonObject = {
        "source": scene.path.name,
        "sensor": None if product.kind == "raster" else product.kind,
        "unit": scene.unit,
        "spacing_m": square_spacing(scene, options),
        "acquired": product.acquired,
        "pass_direction": product.pass_direction,
        "row": location.row,
        "col": location.col,
        "source_row": location.source_row,
    }
    row = np.array([location.row])
    col = np.array([location.col])
    if product.incidence:
        columns["incidence_deg"] = float(product.incidence(row, col)[0])
    if scene.georeference:
        lonlat = scene.georeference.pixels_to_lonlat(row, col)[0].tolist()
        columns["lon"], columns["lat"] = lonlat
    return columns


def _describe_box(
    scene: RasterScene,
    box: Box,
    area: PixelWindow,
    options: ChipOptions,
) -> JsonObject:
    """Return the columns of the manifest for a box in the chip, and for its sides."""
    corners = np.reshape(box, (4, 2)) - area[:2]
    columns: JsonObject = {"box": corners[:, ::-1].ravel().tolist()}
    spacing = resolve_spacing(scene.spacing, options)
    if spacing:
        columns |= box_sides(box, spacing, scene.georeference)
    return columns


def square_spacing(scene: RasterScene, options: ChipOptions) -> float | None:
    """Return the mean pixel spacing of a scene in meters.

    It is None if it is unknown, or so uneven that a model of it would reject the scene.
    """
    spacing = resolve_spacing(scene.spacing, options)
    if not spacing:
        return None
    mean = sum(spacing) / 2
    if all(abs(side / mean - 1) <= SPACING_TOLERANCE for side in spacing):
        return mean
    return None


def _cut(path: str, unit: str | None, window: ChipWindow, location: Location) -> Pixels:
    """Cut a chip in a worker process."""
    pixels = cut_chip(_open_reader(path, unit), window, location).pixels
    check_values(pixels, path)
    return pixels


@lru_cache(maxsize=1)
def _open_reader(path: str, unit: str | None) -> SceneReader:
    """Open a scene; consecutive chips are of the same one."""
    return SceneReader(open_scene(path).in_unit(unit))
