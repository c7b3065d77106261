"""`rsft.detect`: objects in scenes as a table, without a bundle."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from geopandas import GeoDataFrame

from rsft.inference.predict.predictor import path_names
from rsft.inference.predict.python_words import python_words
from rsft.inference.predict.scene_table import geo_table
from rsft.plugins.detection.job import DetectionRequest, detect_in_scenes
from rsft.scenes.detection import detect_objects
from rsft.scenes.options import ChipSize, Declaration
from rsft.scenes.query import CfarOptions, parse_land
from rsft.types import Progress


def detect(
    scene: Any,
    *,
    pfa: float = 1e-6,
    land: Path | str = "auto",
    unit: str | None = None,
    bands: Sequence[str] | None = None,
    spacing: float | None = None,
    size: int | str | None = None,
    chips: Path | str | None = None,
    progress: Progress | None = None,
) -> GeoDataFrame:
    """Detect bright objects on dark water, as `rsft detect` does, and return the table.

    Args:
        scene: path, address, folder or open dataset of rasterio, or a list of scenes.
        pfa: probability of a false alarm per pixel of water.
        land: where nothing is detected: a file of polygons, "brightness", "none" or
            "auto".
        unit: unit of the pixels, if the scenes do not name it.
        bands: names of the bands in order, if the scenes do not name them.
        spacing: pixel spacing in meters, if a scene has no georeference.
        size: size of the chips in pixels, or as "640m" or "box+8"; None fits the boxes.
        chips: folder in which a chip of each object is saved as GeoTIFF.
        progress: called with numbers of scenes and of windows.

    Returns:
        One row per object with the columns of the command's file, in EPSG:4326, or
        without a coordinate system in pixels if no scene has a georeference.
        `attrs["notes"]` has the notes of the command. `rsft.predict_scene` takes the
        table, or some of its rows, as `at`.

    Raises:
        RequestError: an argument contradicts a scene.
        DataError: a scene cannot be read.

    Example:
        >>> objects = detect("scene.tif")
        >>> len(objects), set(objects["class"]), objects.crs.to_string()
        (3, {'object'}, 'EPSG:4326')
    """
    with python_words():
        request = DetectionRequest(
            CfarOptions(pfa, parse_land(str(land))),
            Declaration(unit, tuple(bands) if bands else None, spacing),
            None if size is None else ChipSize.parse(str(size)),
            None if chips is None else Path(chips),
        )
        paths = [Path(name) for name in path_names(scene, "scene")]
        find = partial(
            detect_objects,
            options=request.detector,
            declaration=request.declaration,
            progress=progress,
        )
        layer = detect_in_scenes(paths, request, find, progress)
    return geo_table(layer.table, layer.crs, layer.metadata["notes"])
