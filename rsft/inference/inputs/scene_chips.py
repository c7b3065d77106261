"""Read chips from a scene."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from rsft.data.imagery.band_names import check_declared_bands
from rsft.data.imagery.contract import Contract
from rsft.data.imagery.reader import check_values
from rsft.errors import DataError
from rsft.inference.inputs.chip_source import NoDataError, SourceChip, collapse_gray_rgb, path_to_text
from rsft.inference.inputs.chip_writer import write_chip_geotiff
from rsft.inference.inputs.discovery import Declaration
from rsft.inference.inputs.object_length import annotated_length, box_length, measured_length
from rsft.inference.inputs.product_record import incidence_angles
from rsft.inference.scenes.chip_window import ChipWindow
from rsft.inference.scenes.georeference import Georeference
from rsft.inference.scenes.locations import Location
from rsft.inference.scenes.raster import PixelWindow, RasterScene, SceneReader


class SceneChips:
    """A source of chips around locations in a scene, in the order of the scene's blocks on disk.

    Args:
        scene: the scene.
        locations: centers of the chips.
        contract: bands, units and pixel spacing of the model.
        window: size of the chips.
        spacing: pixel spacing of the chips in meters, along columns and along rows; None if it is unknown.
        declaration: unit and bands of the scene.
        in_pixels: whether geometries are in pixels of the scene (column, -row) instead of degrees.
        is_tiled: whether the locations are tiles, which may have no data.
        is_detected: whether the boxes are those of the detector, drawn around bright pixels.
        chips_dir: folder in which the chips are saved; None does not save them.

    Raises:
        DataError: bands or unit do not fulfill the contract.
    """

    def __init__(
        self,
        scene: RasterScene,
        locations: Sequence[Location],
        contract: Contract,
        window: ChipWindow,
        spacing: tuple[float, float] | None,
        *,
        declaration: Declaration,
        in_pixels: bool = False,
        is_tiled: bool = False,
        is_detected: bool = False,
        chips_dir: Path | None = None,
    ) -> None:
        blocks = [scene.block_index(location.row, location.col) for location in locations]
        order = sorted(range(len(locations)), key=lambda index: (blocks[index], index))
        self.scene, self.contract, self.window, self.spacing = scene, contract, window, spacing
        self.locations = [locations[index] for index in order]
        self.unit, self.is_tiled, self.chips_dir = declaration.unit or scene.unit, is_tiled, chips_dir
        self.is_detected = is_detected
        self._reader = SceneReader(scene, check_scene_bands(scene, contract, declaration))
        self._geometry = _geometries(scene, self.locations, in_pixels)
        self._lonlat = _lonlat(scene.georeference, self.locations)
        self._incidence = incidence_angles(scene, self.locations)

    def __len__(self) -> int:
        return len(self.locations)

    @property
    def edge_chips(self) -> int:
        """Number of chips that extend beyond the edge of the scene. They have no data there."""
        return sum(not _is_inside(self.window.window_at(location), self.scene) for location in self.locations)

    def read(self, number: int) -> SourceChip:
        """Read a chip, see `ChipSource.read`, and save it if `chips_dir` is set.

        Args:
            number: number of the chip, from 0.

        Returns:
            The chip.

        Raises:
            NoDataError: the chip is a tile without data.
            DataError: the chip has no data or is too large, or the file is damaged.
        """
        location = self.locations[number]
        fault = self.window.find_fault(location, self.scene.count)
        if fault:
            raise DataError(fault, self.scene.path, "leave out this position, or give a smaller --side or --margin")
        pixels, clipped = self._reader.read(self.window.window_at(location))
        values = pixels.size
        try:
            check_values(pixels, self.scene.path)
        except DataError as error:
            if self.is_tiled:
                raise NoDataError(error.message) from error
            raise
        pixels, is_gray = collapse_gray_rgb(self.window.resample(pixels, location), self.contract)
        columns = self._columns(number)
        if self.chips_dir is not None:
            path = self.chips_dir / f"{location.name}.tif"
            bands, window = self.contract.used_bands, self.window.window_at(location)
            scene = path_to_text(self.scene.path.name)
            write_chip_geotiff(path, pixels, bands, self.unit, self.scene.georeference, window, scene)
            columns["path"] = path_to_text(path)
        return SourceChip(pixels, self.unit, None if self.is_tiled else self.spacing, columns, is_gray, clipped, values)

    def _columns(self, number: int) -> dict[str, Any]:
        location, scene = self.locations[number], self.scene
        lon, lat = self._lonlat[number].tolist()
        columns: dict[str, Any] = {
            "chip": path_to_text(location.name),
            "scene": path_to_text(scene.path.name),
            "path": path_to_text(scene.path),
            "row": round(location.row, 3),
            "col": round(location.col, 3),
            "lon": lon,
            "lat": lat,
            "at": location.source_row,
            "score": location.score,
            "incidence_deg": self._incidence[number],
        }
        if location.box is not None and self.spacing is not None and not self.is_tiled:
            down, along = (meters / scale for meters, scale in zip(self.spacing, self.window.scale, strict=True))
            if self.is_detected:
                columns |= measured_length(box_length(location.box, (down, along)), (down, along), "detection")
            else:
                columns |= annotated_length(location.box, (down, along))
        return columns | {"geometry": self._geometry[number]}

    def location_of(self, number: int) -> tuple[str, int]:
        """Return scene and name of a chip and 0, see `ChipSource.location_of`.

        Args:
            number: number of the chip.

        Returns:
            Path with name, and line.
        """
        return f"{path_to_text(self.scene.path)} {self.locations[number].name}", 0

    def close(self) -> None:
        """Close the scene."""
        self._reader.close()


def check_scene_bands(scene: RasterScene, contract: Contract, declaration: Declaration) -> list[int]:
    """Check that a scene has the bands and the unit that the model takes.

    Args:
        scene: the scene.
        contract: bands and units of the model.
        declaration: bands and unit of the scene, if the file does not name them.

    Returns:
        Indices of the bands to read, in the order of `Contract.used_bands`.

    Raises:
        DataError: bands or unit do not fulfill the contract, or names in the file contradict the declared ones.
    """
    check_declared_bands(declaration.bands, scene.bands, scene.path)
    names = declaration.bands or scene.bands
    try:
        indices = contract.band_indices(scene.count, names)
        may_be_gray = scene.count == 3 and names is None and len(contract.used_bands) == 1  # the pixels show this later
        contract.check_header(scene.dtype, 1 if may_be_gray else len(indices), declaration.unit or scene.unit)
    except DataError as error:
        raise DataError(error.message, scene.path, error.hint) from error
    return indices


def _is_inside(window: PixelWindow, scene: RasterScene) -> bool:
    return window.top >= 0 and window.left >= 0 and window.bottom <= scene.height and window.right <= scene.width


def _geometries(scene: RasterScene, locations: Sequence[Location], in_pixels: bool) -> list[Any]:
    """Return polygons if every location has a box, else points; None for locations without coordinates."""
    if not locations:
        return []
    boxed = all(location.box is not None for location in locations)
    points = [location.box if boxed else (location.row, location.col) for location in locations]
    corners = np.array(points, float).reshape(len(locations), -1, 2)
    if in_pixels:
        xy = corners[:, :, ::-1] * [1, -1]
        return list(shapely.polygons(xy) if boxed else shapely.points(xy[:, 0]))
    if scene.georeference is None:
        return [None] * len(locations)
    if boxed:
        return list(scene.georeference.outline_polygons(corners))
    degrees = scene.georeference.pixels_to_lonlat(*corners[:, 0].T)
    return [shapely.Point(pair) if np.isfinite(pair).all() else None for pair in degrees]


def _lonlat(georeference: Georeference | None, locations: Sequence[Location]) -> NDArray[Any]:
    """Return longitude and latitude (N, 2) in degrees; None for unknown values."""
    lonlat = np.full((len(locations), 2), None, object)
    if georeference is not None and locations:
        rows, cols = [location.row for location in locations], [location.col for location in locations]
        degrees = georeference.pixels_to_lonlat(rows, cols)
        finite = np.isfinite(degrees)
        lonlat[finite] = degrees[finite].round(7)
    return lonlat
