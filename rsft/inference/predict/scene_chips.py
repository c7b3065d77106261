"""Find the chips of a job in scenes: at positions, on a grid or around detected objects. Read them."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from rasterio.control import GroundControlPoint
from rasterio.io import MemoryFile
from rasterio.transform import from_gcps

from rsft.data.annotations.base import parse_columns
from rsft.data.imagery.bands import POLARIZATIONS
from rsft.data.imagery.chip_spec import ChipSpec
from rsft.data.imagery.reader import check_values
from rsft.data.imagery.scene_uri import SceneUri
from rsft.data.imagery.units import DIGITAL_UNITS
from rsft.errors import DataError, RequestError
from rsft.inference.options import PredictionRequest
from rsft.inference.predict.chip_files import (
    ChipSource,
    NoDataError,
    PredictionPlan,
    SourceChip,
    collapse_gray_rgb,
    describe_assumed_bands,
)
from rsft.inference.predict.lengths import annotated_length, box_length, measured_length
from rsft.inference.writers.pre_annotations import SceneBoxes
from rsft.scenes import locations as locate
from rsft.scenes.chip_size import resolve_spacing
from rsft.scenes.georeference import (
    ignore_georeference_warnings,
    rectangle_corners,
)
from rsft.scenes.locations import ChipWindow, Location, SceneLocations
from rsft.scenes.locators import LOCATORS
from rsft.scenes.options import Declaration
from rsft.scenes.query import Query
from rsft.scenes.raster import RasterScene, declare_unit, open_scene
from rsft.scenes.reader import SceneReader
from rsft.scenes.recorded import find_once
from rsft.types import Pixels, Progress
from rsft.utils.atomic_files import write_bytes
from rsft.utils.journal import Journal
from rsft.utils.operating_system import path_to_text

_log = logging.getLogger(__name__)

SCENE_TAG = "RSFT_SCENE"
"""Tag of a chip with the name of its scene, so that chips of one scene stay in one
split."""


def plan_scenes(
    names: Sequence[SceneUri | Path],
    request: PredictionRequest,
    contract: ChipSpec,
    journal: Journal,
    progress: Progress | None = None,
) -> PredictionPlan:
    """Find the locations of all chips in scenes.

    Args:
        names: the scenes.
        request: where chips are cut, and how the scenes are read.
        contract: bands, units and size of the chips.
        journal: stores detected objects, so that a resumed job does not detect them
            again.
        progress: called with numbers of windows of a scene while objects are detected.

    Returns:
        The chips, with notes about the scenes.

    Raises:
        RequestError: an option contradicts the contract or the positions.
        DataError: a scene cannot be read or does not fulfill the contract.
        NetworkError: a server does not send a scene.
    """
    unit = request.declaration.unit
    scenes = [
        select_scene_unit(open_scene(name, request.product_options), contract, unit)
        for name in names
    ]
    stems = [scene.name for scene in scenes]
    repeated = sorted({stem for stem in stems if stems.count(stem) > 1})
    if repeated:
        raise RequestError(
            f"two scenes have the name {repeated[0]}",
            hint="classify them one at a time, or rename one of them",
        )
    chip_options = request.chip_options
    grid = request.query.grid
    if grid is not None:
        chip_options = replace(chip_options, side=grid, margin=None)
    sources: list[SceneChips] = []
    plan = PredictionPlan(sources, scenes)
    if contract.side and chip_options.side is None and chip_options.margin is None:
        size = f"{contract.side} x {contract.side} pixels"
        plan.notes.append(
            f"chips have {size}, as most training chips; --side N takes another size"
        )
    for scene in scenes:
        locate.check_scene_bands(scene, contract, request.declaration, chip_options)
        assumed = _warn_about_bands(scene, contract, request.declaration)
        positions, window = _find_locations(scene, request, contract, journal, progress)
        spacing = resolve_spacing(scene.spacing, request.chip_options)
        if spacing is not None:
            spacing = spacing[0] * window.scale[0], spacing[1] * window.scale[1]
        source = SceneChips(
            scene,
            positions.locations,
            contract,
            window,
            spacing,
            declaration=request.declaration,
            in_pixels=plan.crs is None,
            is_tiled=request.query.grid is not None,
            is_detected=request.query.detect is not None,
            chips_dir=request.chips_dir,
        )
        sources.append(source)
        plan.positions.append(positions)
        notes = [
            *assumed,
            *describe_scene(scene, spacing, contract.spacing_m),
            *positions.notes,
        ]
        is_unnamed = (
            scene.bands is None
            and request.declaration.bands is None
            and scene.product.kind != "raster"
        )
        if is_unnamed and {*contract.used_bands} <= {*POLARIZATIONS}:
            compared = (
                f"so it is not compared with {', '.join(contract.used_bands)} of the"
                " model"
            )
            notes.append(
                f"{scene.path.name} does not state its polarization, {compared}:"
                " declare it with --bands"
            )
        plan.notes.extend(
            note for note in notes if note not in plan.notes
        )  # one file may cover several scenes
        if source.edge_chips:
            plan.notes.append(
                f"chips that reach over the edge of {scene.path.name}:"
                f" {source.edge_chips:,}"
            )
    return plan


def _warn_about_bands(
    scene: RasterScene, contract: ChipSpec, declaration: Declaration
) -> list[str]:
    """Return the note on the assumed order of the bands of a scene, if it names none; also print it at once."""
    bands = contract.assumed_bands(scene.count, declaration.bands or scene.bands)
    if not bands:
        return []
    note = describe_assumed_bands(f"the bands of {scene.path.name}", bands)
    _log.warning("%s", note)
    return [note]


def select_scene_unit(
    scene: RasterScene, contract: ChipSpec, unit: str | None
) -> RasterScene:
    """Return a scene that is read in the unit that the user declares, or in one that the model takes.

    The first of these is used: the declared unit; the unit of the stored values; their
    data type, for a model of digital numbers; a unit to which the product has a
    calibration.

    Args:
        scene: the scene.
        contract: units of the model.
        unit: the unit that the user declares; None if not declared.

    Returns:
        The scene with its unit; the unit stays None if neither the user nor the file
        declares it.

    Raises:
        RequestError: the declared unit contradicts the file.
    """
    if unit is not None:
        return declare_unit(scene, unit)
    if _accepts(contract, scene.dtype, scene.unit):
        return scene
    if scene.stored_dtype in DIGITAL_UNITS and _accepts(
        contract, scene.stored_dtype, None
    ):
        return replace(
            scene, unit=None, dtype=scene.stored_dtype
        )  # as stored, without scale and offset
    units = (
        name
        for name in scene.product.calibrations
        if _accepts(contract, "float32", name)
    )
    return scene.in_unit(next(units, scene.unit))


def _accepts(contract: ChipSpec, dtype: str, unit: str | None) -> bool:
    try:
        contract.check_header(dtype, len(contract.used_bands), unit)
    except DataError:
        return False
    return True


def _find_locations(
    scene: RasterScene,
    request: PredictionRequest,
    contract: ChipSpec,
    journal: Journal,
    progress: Progress | None,
) -> tuple[SceneLocations, ChipWindow]:
    query = request.query
    options = request.chip_options
    if query.at is not None:
        columns = parse_columns(query.columns)
        read = partial(
            locate.read_positions, query.at, scene, query.crs, query.layer, columns
        )
        positions = _find_objects(scene, query, read, progress)
        has_points = any(location.box is None for location in positions.locations)
        return positions, locate.make_chip_window(contract, scene, options, has_points)
    if query.grid is not None:
        if contract.crop not in (None, query.grid):
            raise RequestError(
                (
                    f"tiles have {query.grid} pixels, but the model takes the middle"
                    f" {contract.crop} pixels of a chip"
                ),
                "--grid",
                f"give --grid {contract.crop}",
            )
        options = replace(options, side=query.grid, margin=None)
        window = locate.make_chip_window(contract, scene, options, has_points=False)
        (down, along), stride = window.scale, query.stride or query.grid
        size = query.grid * down, query.grid * along
        return (
            locate.tile_locations(scene, size, (stride * down, stride * along)),
            window,
        )
    assert query.detect is not None
    window = locate.make_chip_window(contract, scene, options, has_points=True)
    key = f"detected in {scene.name}"

    def detect() -> SceneLocations:
        from rsft.scenes.detection import detect_bright_objects  # SciPy

        assert query.detect is not None
        return detect_bright_objects(
            scene, query.detect, window, request.declaration, contract, progress
        )

    find = partial(find_once, journal, key, detect)
    return _find_objects(scene, query, find, progress), window


def _find_objects(
    scene: RasterScene,
    query: Query,
    find: Callable[[], SceneLocations],
    progress: Progress | None,
) -> SceneLocations:
    """Return the objects that `find` returns, with what the locators of a query add."""
    for name, source in query.sources.items():
        find = partial(LOCATORS[name]().locate, scene, source, find, progress=progress)
    positions = find()
    skipped = positions.skipped.items()
    positions.notes += [f"left out: {count:,} {name}" for name, count in skipped]
    return positions


class SceneChips(ChipSource):
    """A source of chips around locations in a scene, in the order of the blocks on disk, which are decoded only once.

    Args:
        scene: the scene.
        locations: centers of the chips.
        contract: bands, units and pixel spacing of the model.
        window: size of the chips.
        spacing: pixel spacing of the chips in meters, along columns and along rows;
            None if it is unknown.
        declaration: unit and bands of the scene.
        in_pixels: whether geometries are in pixels of the scene (column, -row) instead
            of degrees.
        is_tiled: whether the locations are tiles, which may have no data.
        is_detected: whether the boxes are those of the detector, drawn around bright
            pixels.
        chips_dir: folder in which the chips are saved; None does not save them.

    Raises:
        DataError: bands or unit do not fulfill the contract.
    """

    def __init__(
        self,
        scene: RasterScene,
        locations: Sequence[Location],
        contract: ChipSpec,
        window: ChipWindow,
        spacing: tuple[float, float] | None,
        *,
        declaration: Declaration,
        in_pixels: bool = False,
        is_tiled: bool = False,
        is_detected: bool = False,
        chips_dir: Path | None = None,
    ) -> None:
        height, width = scene.block_shape
        self.locations = sorted(
            locations, key=lambda x: (int(x.row // height), int(x.col // width))
        )
        self.scene = scene
        self.contract = contract
        self.window = window
        self.spacing = spacing
        self.unit = declaration.unit or scene.unit
        self.is_tiled = is_tiled
        self.is_detected = is_detected
        self.chips_dir = chips_dir
        self._reader = SceneReader(
            scene, locate.check_scene_bands(scene, contract, declaration)
        )
        self._geometry = _geometries(scene, self.locations, in_pixels)
        rows = np.array([x.row for x in self.locations], np.float64)
        cols = np.array([x.col for x in self.locations], np.float64)
        self._lonlat = np.full((len(rows), 2), np.nan)
        self._incidence = np.full(len(rows), np.nan)
        if scene.georeference is not None and len(rows):
            self._lonlat = scene.georeference.pixels_to_lonlat(rows, cols).round(7)
        if scene.product.incidence is not None and len(rows):
            self._incidence = scene.product.incidence(rows, cols)

    def __len__(self) -> int:
        return len(self.locations)

    @property
    def edge_chips(self) -> int:
        """Number of chips that extend beyond the edge of the scene.

        They have no data there.
        """
        windows = (self.window.window_at(location) for location in self.locations)
        height, width = self.scene.height, self.scene.width
        return sum(
            x.top < 0 or x.left < 0 or x.bottom > height or x.right > width
            for x in windows
        )

    def boxes(self) -> tuple[str, SceneBoxes]:
        """Return the name of the scene, and the boxes of its chips; a point has the box of its chip."""
        corners = {
            path_to_text(x.name): (
                x.box
                or tuple(rectangle_corners(*self.window.window_at(x)).ravel().tolist())
            )
            for x in self.locations
        }
        return path_to_text(self.scene.path.name), SceneBoxes(
            self.scene.width, self.scene.height, corners
        )

    def read(self, number: int) -> SourceChip:
        """Read a chip, and save it if `chips_dir` is set."""
        location = self.locations[number]
        chip = locate.cut_chip(self._reader, self.window, location)
        try:
            check_values(chip.pixels, self.scene.path)
        except DataError as error:
            if self.is_tiled:
                raise NoDataError(error.message) from error
            raise
        pixels, is_gray = collapse_gray_rgb(chip.pixels, self.contract)
        columns = self._columns(number)
        if self.chips_dir is not None:
            path = self.chips_dir / f"{location.name}.tif"
            write_bytes(path, self._encode_geotiff(pixels, location))
            columns["path"] = path_to_text(path)
        spacing = None if self.is_tiled else self.spacing
        return SourceChip(
            pixels, self.unit, spacing, columns, is_gray, chip.clipped, chip.values
        )

    def _columns(self, number: int) -> dict[str, Any]:
        location = self.locations[number]
        scene = self.scene
        lon, lat = (
            float(value) if np.isfinite(value) else None
            for value in self._lonlat[number]
        )
        incidence = self._incidence[number]
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
            "incidence_deg": (
                round(float(incidence), 2) if np.isfinite(incidence) else None
            ),
        }
        if location.box is not None and self.spacing is not None and not self.is_tiled:
            down, along = (
                meters / scale
                for meters, scale in zip(self.spacing, self.window.scale, strict=True)
            )
            if self.is_detected:
                columns |= measured_length(
                    box_length(location.box, (down, along)), (down, along), "detection"
                )
            else:
                columns |= annotated_length(location.box, (down, along))
        return columns | {"geometry": self._geometry[number]}

    def _encode_geotiff(self, pixels: Pixels, location: Location) -> bytes:
        """Return a chip with the names of its bands, its unit, its scene and its georeference. NaN means no data.

        The geotransform is fitted to the corners of the chip, in the coordinate system
        of the scene. If the scene has ground control points, the coordinates are in
        meters around their center.
        """
        (height, width, count), georeference = pixels.shape, self.scene.georeference
        profile = {
            "driver": "GTiff",
            "height": height,
            "width": width,
            "count": count,
            "dtype": str(pixels.dtype),
        }
        if np.issubdtype(pixels.dtype, np.inexact):
            profile["nodata"] = np.nan
        if georeference is not None:
            corners = rectangle_corners(*self.window.window_at(location))
            coordinates = np.column_stack(
                georeference.transformer.xy(*corners.T, offset="ul")
            )
            pairs = zip(
                rectangle_corners(0, 0, height, width), coordinates, strict=True
            )
            points = [
                GroundControlPoint(row=row, col=col, x=x, y=y)
                for (row, col), (x, y) in pairs
            ]
            profile |= {
                "crs": georeference.crs.to_wkt(),
                "transform": from_gcps(points),
            }
        with (
            ignore_georeference_warnings(),
            MemoryFile() as memory,
        ):  # GDAL does not report a full disk on closing
            with memory.open(compress="deflate", **profile) as file:
                file.write(pixels.transpose(2, 0, 1))
                file.units = (self.unit or "",) * count
                file.update_tags(**{SCENE_TAG: path_to_text(self.scene.path.name)})
                for index, name in enumerate(self.contract.used_bands[:count], 1):
                    file.set_band_description(index, name)
            return bytes(memory.read())

    def location_of(self, number: int) -> tuple[str, int]:
        return f"{path_to_text(self.scene.path)} {self.locations[number].name}", 0

    def close(self) -> None:
        self._reader.close()


def _geometries(
    scene: RasterScene, locations: Sequence[Location], in_pixels: bool
) -> list[Any]:
    """Return polygons if every location has a box, else points; None for locations without coordinates."""
    if not locations:
        return []
    boxed = all(location.box is not None for location in locations)
    points = [
        location.box if boxed else (location.row, location.col)
        for location in locations
    ]
    corners = np.array(points, float).reshape(len(locations), -1, 2)
    if in_pixels:
        xy = corners[:, :, ::-1] * [1, -1]
        return list(shapely.polygons(xy) if boxed else shapely.points(xy[:, 0]))
    if scene.georeference is None:
        return [None] * len(locations)
    if boxed:
        return list(scene.georeference.outline_polygons(corners))
    degrees = scene.georeference.pixels_to_lonlat(*corners[:, 0].T)
    return [
        shapely.Point(pair) if np.isfinite(pair).all() else None for pair in degrees
    ]


def describe_scene(
    scene: RasterScene, spacing: tuple[float, float] | None, needed_m: float | None
) -> list[str]:
    """Return notes about the georeference, the product and the calibration of a scene.

    Args:
        scene: the scene, with the unit in which it is read.
        spacing: its pixel spacing in meters; None if it is unknown.
        needed_m: pixel spacing of the model in meters; None if it takes any.

    Returns:
        Sentences that begin with the name of the scene or contain it.
    """
    record = scene.record()
    name = scene.path.name
    georeference = scene.georeference
    notes = [f"{name} has no georeference: coordinates are in pixels"]
    if georeference is not None:
        notes = [f"georeference of {name}: {georeference.description}"]
    if scene.assets:
        notes.append(f"assets of the item {name}: {', '.join(scene.assets)}")
    if "acquired" in record or "incidence_deg" in record:
        words = [record["product"], record.get("acquired"), record.get("pass")]
        if "incidence_deg" in record:
            words.append(
                "incidence {:g} to {:g} degrees".format(*record["incidence_deg"])
            )
        notes.append(f"{name}: {', '.join(word for word in words if word)}")
    if "calibration" in record:
        noise = f"; {record['noise']}" if "noise" in record else ""
        notes.append(
            f"{name}: calibrated to {scene.unit} by {record['calibration']}{noise}"
        )
    elif scene.unit is not None and scene.product.unit == scene.unit:
        notes.append(f"unit of {name}: {scene.unit}, as the file declares")
    if spacing is None and needed_m is not None:
        compared = f"so it is not compared with the model's {needed_m:g} m"
        notes.append(f"the pixel spacing of {name} is unknown, {compared}")
    return notes
