"""Draw the scenes of a predictions table as maps, for the report of the run that made the bundle."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from rsft.data.imagery.products.product import ProductOptions
from rsft.errors import RequestError
from rsft.inference.corrections.corrected_table import read_table_file
from rsft.inference.inputs.chip_source import path_to_text
from rsft.inference.predict.truth import TruthCheck
from rsft.inference.review.map_picture import draw_map_picture
from rsft.inference.scenes.raster import RasterScene, gdal_environment, open_scene
from rsft.inference.writers.tables import PredictionLayer

MAX_SCENES = 6
"""Largest number of scenes in a table: a report is a page to send by mail."""

_HINT = "give the .gpkg, .geojson or .parquet that `rsft predict` wrote with --at, --grid or --detect"


class DrawnScene(NamedTuple):
    """A map and its numbers.

    Attributes:
        scene: name of the scene.
        chips: number of classified chips in it.
        unlike: number of them that are unlike the training chips; None if the bundle is not calibrated.
        truth: comparison with the truth, in short lines; empty without a truth.
        picture: the map, a PNG.
    """

    scene: str
    chips: int
    unlike: int | None
    truth: list[str]
    picture: bytes


def draw_scene_maps(predictions: Path, bundle_sha256: str) -> list[DrawnScene]:
    """Draw every scene of a predictions table with its classified chips.

    Args:
        predictions: a table that `rsft predict` wrote, with metadata. Its scenes must still be at their paths.
        bundle_sha256: SHA-256 of the bundle that must have classified the chips.

    Returns:
        One map per scene.

    Raises:
        RequestError: the table is not one of scenes, was made by another bundle, or has more than `MAX_SCENES` scenes.
        DataError: a scene cannot be read.
    """
    table, metadata = read_table_file(predictions, _HINT)
    names, classes = metadata.get("scenes", []), metadata.get("classes", [])
    if not (_is_texts(names) and _is_texts(classes) and {"class", "scene", "row", "col", "geometry"} <= set(table)):
        raise RequestError("the table has no scenes with classified chips", predictions, _HINT)
    if metadata.get("bundle_sha256") != bundle_sha256:
        hint = "predict the scene with the bundle of this run, or write the report of the run that made the table"
        raise RequestError("another bundle made the table", predictions, hint)
    if len(names) > MAX_SCENES:
        message = f"the table has {len(names):,} scenes, but a report shows at most {MAX_SCENES}"
        raise RequestError(message, predictions, "predict fewer scenes")
    options, checks = _read_record(predictions, metadata)
    layer = PredictionLayer(table, None, tuple(classes), metadata)
    with gdal_environment():
        return [_draw(layer, open_scene(name, options), checks) for name in names]


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, str) for item in value)


def _read_record(predictions: Path, metadata: Mapping[str, Any]) -> tuple[ProductOptions, dict[str, list[str]]]:
    """Return how the scenes were read, and the lines on the truth by scene."""
    try:
        checks = [TruthCheck(**check) for check in metadata.get("truth") or ()]
        return ProductOptions(**metadata.get("request", {}).get("product", {})), {x.scene: x.caption() for x in checks}
    except (TypeError, ValueError, AttributeError) as error:
        raise RequestError("the metadata of the table are damaged", predictions, "predict the scene again") from error


def _draw(layer: PredictionLayer, scene: RasterScene, checks: Mapping[str, list[str]]) -> DrawnScene:
    name = path_to_text(scene.path.name)
    chips = layer.table[layer.table["class"].notna() & (layer.table["scene"] == name)]
    truth = checks.get(name, [])
    return DrawnScene(name, len(chips), _count_unlike(chips), truth, draw_map_picture(layer, scene, truth))


def _count_unlike(chips: pd.DataFrame) -> int | None:
    return int(chips["ood"].fillna(False).astype(bool).sum()) if "ood" in chips else None
