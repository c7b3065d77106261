"""Find the chips of a job in scenes, and read them with the columns of the table."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from rasterio.control import GroundControlPoint
from rasterio.io import MemoryFile
from rasterio.transform import from_gcps

from rsft.data.imagery.bands import POLARIZATIONS
from rsft.data.imagery.chip_spec import ChipSpec
from rsft.data.imagery.reader import check_values
from rsft.data.imagery.scene_uri import SceneUri
from rsft.errors import DataError, RequestError
from rsft.inference.options import PredictionRequest
from rsft.inference.predict.chip_files import (
    ChipSource,
    NoDataError,
    PredictionPlan,
    SourceChip,
)
from rsft.inference.writers.layer import SceneBoxes
from rsft.scenes.chip_size import resolve_spacing
from rsft.scenes.georeference import ignore_georeference_warnings, rectangle_corners
from rsft.scenes.lengths import annotated_length, box_length, measured_length
from rsft.scenes.locate import locate
from rsft.scenes.locations import Location, SceneLocations
from rsft.scenes.options import ChipSize, Declaration
from rsft.scenes.raster import RasterScene, open_scene
from rsft.scenes.reader import AreaReader
from rsft.scenes.recorded import find_once
from rsft.scenes.requirements import check_scene, select_unit
from rsft.scenes.windows import ChipWindow, check_boxes, cut_chip, make_window
from rsft.types import Floats, Pixels, Progress, Spacing
from rsft.utils.atomic_files import write_bytes
from rsft.utils.journal import Journal
from rsft.utils.operating_system import path_to_text

_AHEAD = 64  # chips
SCENE_TAG = "RSFT_SCENE"
"""Tag of a chip with the name of its scene, so that chips of one scene stay in one
split."""


def plan_scenes(
    names: Sequence[SceneUri | Path],
    request: PredictionRequest,
    spec: ChipSpec,
    journal: Journal,
    progress: Progress | None = None,
) -> PredictionPlan:
    """Find the locations of all chips in scenes.

    Args:
        names: the scenes.
        request: where chips are cut, and how the scenes are read.
        spec: what the chips must be.
        journal: stores detected objects, so that a resumed job does not detect them
            again.
        progress: called with numbers of windows of a scene while objects are detected.

    Returns:
        The chips, with notes about the scenes.

    Raises:
        RequestError: an option contradicts the specification or the positions.
        DataError: a scene cannot be read or its chips would be others.
        NetworkError: a server does not send a scene.
    """
    scenes = _open_scenes(names, request, spec)
    grid = request.query.grid
    if grid is not None:
        if spec.crop not in (None, grid):
            raise RequestError(
                f"tiles have {grid} pixels, but the model takes the middle {spec.crop}"
                " pixels of a chip",
                "--grid",
                f"give --grid {spec.crop}",
            )
        chip_options = replace(request.chip_options, size=ChipSize(grid))
        request = replace(request, chip_options=chip_options)
    sources: list[SceneChips] = []
    plan = PredictionPlan(sources, scenes)
    if spec.side and not request.chip_options.size:
        plan.notes.append(
            f"chips have {spec.side} x {spec.side} pixels, as most training chips;"
            " --size N takes another size"
        )
    for scene in scenes:
        check_scene(scene, spec, request.declaration, request.chip_options)
        window = make_window(scene, request.chip_options, spec)
        positions = _locate(scene, request, spec, window, journal, progress)
        locations = in_block_order(scene, positions.locations)
        source = SceneChips(scene, locations, spec, window, request, plan.crs is None)
        sources.append(source)
        plan.positions.append(positions)
        notes = describe_scene(scene, source.spacing, spec.spacing_m)
        notes += positions.notes
        notes += _describe_polarization(scene, spec, request.declaration)
        if source.edge_chips:
            notes.append(
                f"chips that reach over the edge of {scene.path.name}:"
                f" {source.edge_chips:,}"
            )
        for note in notes:  # one file may cover several scenes
            if note not in plan.notes:
                plan.notes.append(note)
    return plan


def _open_scenes(
    names: Sequence[SceneUri | Path], request: PredictionRequest, spec: ChipSpec
) -> list[RasterScene]:
    """Open the scenes in a unit that the specification accepts.

    Raises:
        RequestError: two have the same name.
    """
    scenes = {}
    for name in names:
        scene = open_scene(name, request.product_options)
        if scene.name in scenes:
            raise RequestError(
                f"two scenes have the name {scene.name}",
                hint="classify them one at a time, or rename one of them",
            )
        scenes[scene.name] = select_unit(scene, spec, request.declaration.unit)
    return list(scenes.values())


def _locate(
    scene: RasterScene,
    request: PredictionRequest,
    spec: ChipSpec,
    window: ChipWindow,
    journal: Journal,
    progress: Progress | None,
) -> SceneLocations:
    """Return the locations of a query in a scene, with notes on what was left out."""

    def detect() -> SceneLocations:
        from rsft.scenes.detection import detect_bright_objects  # SciPy

        detector = request.query.detect
        assert detector
        return detect_bright_objects(
            scene, detector, window, request.declaration, spec, progress
        )

    if request.query.detect and window.side is None:
        raise RequestError(
            "--size box needs boxes, but the detected objects get none",
            "--size",
            "give --size in pixels",
        )
    find = partial(find_once, journal, f"detected in {scene.name}", detect)
    positions = locate(scene, request.query, find, window.scale, progress=progress)
    check_boxes(window, positions.locations)
    skipped = positions.skipped.items()
    positions.notes += [f"left out: {count:,} {name}" for name, count in skipped]
    return positions


def _describe_polarization(
    scene: RasterScene, spec: ChipSpec, declaration: Declaration
) -> list[str]:
    """Return a note if a product does not state its polarization."""
    is_named = scene.bands is not None or declaration.bands is not None
    is_radar = {*spec.used_bands} <= {*POLARIZATIONS}
    if is_named or scene.product.kind == "raster" or not is_radar:
        return []
    return [
        f"{scene.path.name} does not state its polarization, so it is not compared with"
        f" {', '.join(spec.used_bands)} of the model: declare it with --bands"
    ]


def in_block_order(scene: RasterScene, locations: Sequence[Location]) -> list[Location]:
    """Return locations in the order of the blocks on disk.

    Chips in this order decode a block only once.
    """
    height, width = scene.block_shape
    return sorted(locations, key=lambda x: (int(x.row // height), int(x.col // width)))


class SceneChips(ChipSource):
    """A source of chips around locations in a scene, in the order given.

    Args:
        scene: the scene.
        locations: centers of the chips.
        spec: what the chips must be.
        window: size of the chips.
        request: unit and bands of the scene, kind of the locations, and folder in which
            the chips are saved.
        in_pixels: whether geometries are in pixels of the scene (column, -row) instead
            of degrees.

    Attributes:
        spacing: pixel spacing of the chips in meters, along columns and along rows;
            None if it is unknown.
        unit: unit of the chips; None if it is unknown.
        band_names: names of the bands of the scene; None if they are unknown.

    Raises:
        DataError: bands or unit are not those of the specification.
    """

    def __init__(
        self,
        scene: RasterScene,
        locations: Sequence[Location],
        spec: ChipSpec,
        window: ChipWindow,
        request: PredictionRequest,
        in_pixels: bool = False,
    ) -> None:
        self.locations = locations
        self.scene = scene
        self.spec = spec
        self.window = window
        self.chips_dir = request.chips_dir
        self.is_tiled = request.query.grid is not None
        self.is_detected = request.query.detect is not None
        self.unit = request.declaration.unit or scene.unit
        self.band_names = request.declaration.bands or scene.bands
        self.scene_spacing = resolve_spacing(scene.spacing, request.chip_options)
        self.spacing: Spacing | None = None
        if self.scene_spacing:
            down, along = self.scene_spacing
            self.spacing = down * window.scale[0], along * window.scale[1]
        self._reader = AreaReader(scene, check_scene(scene, spec, request.declaration))
        centers = np.array([x[:2] for x in locations], np.float64).reshape(-1, 2)
        self._lonlat = np.full_like(centers, np.nan)
        self._incidence = np.full(len(centers), np.nan)
        if scene.georeference and len(centers):
            self._lonlat = scene.georeference.pixels_to_lonlat(*centers.T)
        if scene.product.incidence and len(centers):
            self._incidence = scene.product.incidence(*centers.T)
        points = centers[:, ::-1] * (1, -1) if in_pixels else self._lonlat
        self._geometry = _geometries(scene, locations, points, in_pixels)

    def __len__(self) -> int:
        return len(self.locations)

    @property
    def edge_chips(self) -> int:
        """Number of chips that extend beyond the edge of the scene.

        They have no data there.
        """
        size = self.scene.height, self.scene.width
        windows = map(self.window.window_at, self.locations)
        return sum(not window.is_inside(*size) for window in windows)

    def boxes(self) -> tuple[str, SceneBoxes]:
        """Return the name of the scene, and the boxes of its chips.

        A point has the box of its chip.
        """
        corners = {}
        for location in self.locations:
            box = location.box
            if box is None:
                edges = rectangle_corners(*self.window.window_at(location))
                box = tuple(edges.ravel().tolist())
            corners[path_to_text(location.name)] = box
        return path_to_text(self.scene.path.name), SceneBoxes(
            self.scene.width, self.scene.height, corners
        )

    def read(self, number: int) -> SourceChip:
        """Read a chip, and save it if `chips_dir` is set."""
        location = self.locations[number]
        following = self.locations[number : number + _AHEAD]
        self._reader.read_ahead(map(self.window.window_at, following))
        chip = cut_chip(self._reader, self.window, location)
        try:
            check_values(chip.pixels, self.scene.path)
        except DataError as error:
            if self.is_tiled:
                raise NoDataError(error.message) from error
            raise
        pixels = self.spec.take_gray(chip.pixels)
        columns = self.columns(number)
        if self.chips_dir:
            path = self.chips_dir / f"{location.name}.tif"
            write_bytes(path, self._encode_geotiff(pixels, location))
            columns["path"] = path_to_text(path)
        spacing = None if self.is_tiled else self.spacing
        is_unnamed = self.spec.assumed_bands(self.scene.count, self.band_names)
        counts = {
            "gray": int(pixels is not chip.pixels),
            "clipped": chip.clipped,
            "unnamed": int(bool(is_unnamed)),
        }
        return SourceChip(pixels, self.unit, spacing, columns, counts)

    def columns(self, number: int) -> dict[str, Any]:
        """Return the columns of the table that say where a chip lies."""
        location = self.locations[number]
        columns = {
            "chip": path_to_text(location.name),
            "scene": path_to_text(self.scene.path.name),
            "path": path_to_text(self.scene.path),
            "row": round(location.row, 3),
            "col": round(location.col, 3),
            "lon": _finite_or_none(self._lonlat[number, 0], 7),
            "lat": _finite_or_none(self._lonlat[number, 1], 7),
            "at": location.source_row,
            "score": location.score,
            "incidence_deg": _finite_or_none(self._incidence[number], 2),
        }
        spacing = self.scene_spacing
        if location.box is not None and spacing and not self.is_tiled:
            if self.is_detected:
                columns |= measured_length(
                    box_length(location.box, spacing), spacing, "detection"
                )
            else:
                columns |= annotated_length(location.box, spacing)
        return columns | {"geometry": self._geometry[number]}

    def _encode_geotiff(self, pixels: Pixels, location: Location) -> bytes:
        """Return a chip as GeoTIFF. NaN means no data.

        It names its bands, its unit and its scene. The geotransform is fitted to the
        corners of the chip, in the coordinate system of the scene. If the scene has
        ground control points, the coordinates are in meters around one of them.
        """
        height, width, count = pixels.shape
        georeference = self.scene.georeference
        profile = {
            "driver": "GTiff",
            "height": height,
            "width": width,
            "count": count,
            "dtype": str(pixels.dtype),
            "compress": "deflate",
        }
        if np.issubdtype(pixels.dtype, np.inexact):
            profile["nodata"] = np.nan
        if georeference:
            corners = rectangle_corners(*self.window.window_at(location))
            x, y = georeference.transformer.xy(*corners.T, offset="ul")
            rows, cols = rectangle_corners(0, 0, height, width).T
            profile["crs"] = georeference.crs.to_wkt()
            profile["transform"] = from_gcps(
                list(map(GroundControlPoint, rows, cols, x, y))
            )
        # GDAL does not report a full disk on closing
        with ignore_georeference_warnings(), MemoryFile() as memory:
            with memory.open(**profile) as file:
                file.write(pixels.transpose(2, 0, 1))
                file.units = (self.unit or "",) * count
                file.update_tags(**{SCENE_TAG: path_to_text(self.scene.path.name)})
                for index, name in enumerate(self.spec.used_bands[:count], 1):
                    file.set_band_description(index, name)
            return bytes(memory.read())

    def location_of(self, number: int) -> tuple[str, int]:
        return f"{path_to_text(self.scene.path)} {self.locations[number].name}", 0

    def close(self) -> None:
        self._reader.close()


def _finite_or_none(value: float, decimals: int) -> float | None:
    return round(float(value), decimals) if np.isfinite(value) else None


def _geometries(
    scene: RasterScene,
    locations: Sequence[Location],
    points: Floats,
    in_pixels: bool,
) -> list[Any]:
    """Return polygons if every location has a box, else the points (N, 2).

    A location without coordinates has None.
    """
    boxes = [location.box for location in locations]
    if not boxes or None in boxes:
        return [shapely.Point(x) if np.isfinite(x).all() else None for x in points]
    corners = np.reshape(np.array(boxes, np.float64), (-1, 4, 2))
    if in_pixels:
        return list(shapely.polygons(corners[:, :, ::-1] * (1, -1)))
    if not scene.georeference:
        return [None] * len(boxes)
    return list(scene.georeference.outline_polygons(corners))


def describe_scene(
    scene: RasterScene, spacing: Spacing | None, needed_m: float | None
) -> list[str]:
    """Return notes about the georeference, the product and the calibration of a scene.

    Args:
        scene: the scene, with the unit in which it is read.
        spacing: its pixel spacing in meters; None if it is unknown.
        needed_m: pixel spacing of the model in meters; None if it takes any.

    Returns:
        Sentences that begin with the name of the scene or contain it.
    """
    product = scene.product
    name = scene.path.name
    notes = []
    if not scene.georeference:
        notes.append(f"{name} has no georeference: coordinates are in pixels")
    else:
        notes.append(f"georeference of {name}: {scene.georeference.description}")
    if scene.calibrations is not None:
        sources = filter(None, (product.calibration_source, product.noise))
        notes.append(f"{name}: calibrated to {scene.unit} by {'; '.join(sources)}")
    elif scene.unit and scene.unit in (product.unit, product.digital_unit):
        notes.append(f"unit of {name}: {scene.unit}, as the file declares")
    if not spacing and needed_m is not None:
        notes.append(
            f"the pixel spacing of {name} is unknown, so it is not compared with the"
            f" model's {needed_m:g} m"
        )
    return notes
