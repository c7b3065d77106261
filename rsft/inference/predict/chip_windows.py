"""Chips in windows of a raster, with their place on the map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from rasterio.errors import WindowError
from rasterio.windows import Window, evaluate

from rsft.data.imagery.contract import Contract
from rsft.data.imagery.scene_uri import SceneUri
from rsft.errors import RequestError
from rsft.inference.options import PredictionRequest
from rsft.inference.predict.scene_chips import SceneChips
from rsft.scenes.georeference import rectangle_corners
from rsft.scenes.locations import Location
from rsft.scenes.options import ChipOptions, ChipSize, Declaration
from rsft.scenes.query import Query
from rsft.scenes.raster import RasterScene, open_scene
from rsft.scenes.requirements import select_unit
from rsft.scenes.windows import make_window


def open_raster_windows(
    name: str,
    windows: Window | Sequence[Any],
    contract: Contract,
    declaration: Declaration,
    options: ChipOptions,
) -> SceneChips:
    """Return the chips in windows of a raster, in the order given.

    Args:
        name: the raster, as for `rsft.scenes.raster.open_scene`.
        windows: one window of rasterio, or several; each is cut at the edge.
        contract: bands, unit and pixel spacing of the model.
        declaration: unit and bands of the raster, if it does not name them.
        options: pixel spacing, and whether to resample.

    Raises:
        RequestError: a window does not lie in the raster.
        DataError: the raster cannot be read, or does not fulfill the contract.
    """
    scene = select_unit(open_scene(SceneUri.parse(name)), contract, declaration.unit)
    several = [windows] if isinstance(windows, Window) else windows
    locations = [_locate(number, x, scene) for number, x in enumerate(several)]
    options = replace(options, size=ChipSize(margin=0))
    window = make_window(scene, options, contract)
    # like a tile, a window may have no object in its middle
    return SceneChips(
        scene,
        locations,
        contract,
        window,
        PredictionRequest(Query(grid=1), declaration, options),
    )


def _locate(number: int, window: Any, scene: RasterScene) -> Location:
    """Return the location of a window.

    Raises:
        RequestError: it is no window, or does not lie in the scene.
    """
    raster = Window(0, 0, scene.width, scene.height)
    try:
        inside = evaluate(window, scene.height, scene.width).intersection(raster)
        (top, bottom), (left, right) = inside.toranges()
    except (TypeError, ValueError, AttributeError, WindowError) as error:
        raise RequestError(
            f"{window!r} is no window in {scene.path.name}: {error}",
            "windows",
            "give a list of rasterio.windows.Window, or of ((row, row), (col, col))",
        ) from error
    box = tuple(rectangle_corners(top, left, bottom, right).ravel().tolist())
    center = (top + bottom) / 2, (left + right) / 2
    return Location(*center, box, f"{scene.name}_{number:06d}")
