"""Chips in windows of a raster, with their place on the map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from rasterio.windows import Window, evaluate

from rsft.data.imagery.contract import Contract
from rsft.data.imagery.reader import check_values
from rsft.data.imagery.scene_uri import SceneUri
from rsft.errors import RequestError
from rsft.inference.predict.chip_files import ChipSource, SourceChip, fit_chip
from rsft.scenes.chip_size import MAX_CHIP_SIDE, resolve_spacing
from rsft.scenes.georeference import rectangle_corners
from rsft.scenes.options import ChipOptions, Declaration
from rsft.scenes.raster import PixelWindow, open_scene
from rsft.scenes.reader import SceneReader
from rsft.scenes.requirements import check_scene, select_unit
from rsft.utils.operating_system import path_to_text


class ChipWindows(ChipSource):
    """A source of chips in windows of a raster.

    Args:
        name: the raster, as for `rsft.scenes.raster.open_scene`.
        windows: one window of rasterio, or several; each may extend beyond the edge.
        contract: bands, unit and pixel spacing of the model.
        declaration: unit and bands of the raster, if it does not name them.
        options: pixel spacing, and whether to resample.

    Raises:
        RequestError: a window is empty, larger than a chip can be, or no window.
        DataError: the raster cannot be read, or does not fulfill the contract.
    """

    def __init__(
        self,
        name: str,
        windows: Window | Sequence[Any],
        contract: Contract,
        declaration: Declaration,
        options: ChipOptions,
    ) -> None:
        scene = open_scene(SceneUri.parse(name))
        self.scene = select_unit(scene, contract, declaration.unit)
        indices = check_scene(self.scene, contract, declaration)
        several = [windows] if isinstance(windows, Window) else windows
        self.windows = [_pixel_window(x, scene.height, scene.width) for x in several]
        if not self.windows:
            raise RequestError("no windows", "windows", "give one window or more")
        self.contract = contract
        self.unit = declaration.unit or self.scene.unit
        self.options = options
        self._reader = SceneReader(self.scene, indices)
        corners = np.array([rectangle_corners(*x) for x in self.windows])
        self._outlines: Sequence[Any] = [None] * len(self.windows)
        if scene.georeference is not None:
            self._outlines = scene.georeference.outline_polygons(corners)
        names = declaration.bands or scene.bands
        self._is_unnamed = bool(contract.assumed_bands(scene.count, names))

    def __len__(self) -> int:
        return len(self.windows)

    def read(self, number: int) -> SourceChip:
        pixels, clipped = self._reader.read(self.windows[number])
        check_values(pixels, self.scene.path)
        used = self.contract.used_bands
        names = used if pixels.shape[2] == len(used) else None  # gray stored as RGB
        spacing = resolve_spacing(self.scene.spacing, self.options)
        fitted = fit_chip(pixels, names, spacing, self.contract, self.options)
        counts = fitted.counts | {"clipped": clipped, "values": pixels.size}
        counts["unnamed"] = int(self._is_unnamed)
        columns = {
            "chip": number,
            "path": path_to_text(self.scene.path),
            "geometry": self._outlines[number],
        }
        return SourceChip(fitted.pixels, self.unit, fitted.spacing, columns, counts)

    def chip_name(self, number: int) -> int:
        return number

    def location_of(self, number: int) -> tuple[str, int]:
        return f"{path_to_text(self.scene.path)} window {number}", 0

    def close(self) -> None:
        self._reader.close()


def _pixel_window(window: Any, height: int, width: int) -> PixelWindow:
    """Return a window in whole pixels.

    Raises:
        RequestError: it is no window, empty, or larger than a chip can be.
    """
    try:
        (top, bottom), (left, right) = evaluate(window, height, width).toranges()
    except (TypeError, ValueError, AttributeError) as error:
        raise RequestError(
            f"{window!r} is no window: {error}",
            "windows",
            "give a list of rasterio.windows.Window, or of ((row, row), (col, col))",
        ) from error
    rounded = PixelWindow(*(round(x) for x in (top, left, bottom, right)))
    if not 0 < min(rounded.size) <= max(rounded.size) <= MAX_CHIP_SIDE:
        raise RequestError(
            f"a window of {rounded.size[0]:,} x {rounded.size[1]:,} pixels",
            "windows",
            f"give 1 to {MAX_CHIP_SIDE:,} pixels a side",
        )
    return rounded
