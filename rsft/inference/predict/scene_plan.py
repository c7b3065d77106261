"""Decide where chips are cut in scenes, and make the sources that read them.

Decide in which unit a scene is read.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NamedTuple

from rsft.data.imagery.contract import Contract
from rsft.data.imagery.products.product import DEFAULT_OPTIONS, ProductOptions
from rsft.data.imagery.scene_uri import SceneUri
from rsft.data.imagery.units import DIGITAL_UNITS, parse_unit
from rsft.errors import DataError, RequestError
from rsft.inference.detection.options import CfarOptions
from rsft.inference.inputs.discovery import Declaration
from rsft.inference.inputs.scene_chips import SceneChips, check_scene_bands, product_notes
from rsft.inference.predict.resume_journal import ResumeJournal
from rsft.inference.scenes.chip_window import ChipOptions, ChipWindow, make_chip_window, resolve_spacing
from rsft.inference.scenes.locations import Location, SceneLocations, tile_locations
from rsft.inference.scenes.position_files import read_positions
from rsft.inference.scenes.raster import RasterScene, open_scene
from rsft.types import Progress, Rejection


def select_scene_unit(scene: RasterScene, contract: Contract, unit: str | None) -> RasterScene:
    """Return a scene that is read in the unit that the user declares, or in one that the model takes.

    The first of these is used: the declared unit; the unit of the stored values; their data type, for a model of
    digital numbers; a unit to which the product has a calibration.

    Args:
        scene: the scene.
        contract: units of the model.
        unit: the unit that the user declares; None if not declared.

    Returns:
        The scene with its unit; the unit stays None if neither the user nor the file declares it.

    Raises:
        RequestError: the declared unit contradicts the file.
    """
    calibrations = scene.product.calibrations
    if unit is not None:
        unit = parse_unit(unit)
        known_unit = scene.product.unit
        if known_unit not in (None, unit) and unit not in calibrations:
            calibrated = f", or {' or '.join(calibrations)} by its calibration" if calibrations else ""
            message = f"--unit {unit}, but the file declares {known_unit}{calibrated}"
            raise RequestError(
                message, scene.path, "leave out --unit: rsft reads the scene in a unit that the model takes"
            )
        return scene.in_unit(unit)
    if _accepts(contract, scene.dtype, scene.unit):
        return scene
    if scene.stored_dtype in DIGITAL_UNITS and _accepts(contract, scene.stored_dtype, None):
        return scene.as_stored()
    units = (name for name in calibrations if _accepts(contract, "float32", name))
    return scene.in_unit(next(units, scene.unit))


def _accepts(contract: Contract, dtype: str, unit: str | None) -> bool:
    try:
        contract.check_header(dtype, len(contract.used_bands), unit)
    except DataError:
        return False
    return True


@dataclass(frozen=True)
class SceneQuery:
    """Where chips are cut in scenes. Without `at`, `grid` and `detect` the inputs are chips.

    Attributes:
        at: a file or folder of positions, see `read_positions`.
        crs: coordinate system of the positions, if their file does not name one.
        grid: side of a tile in chip pixels.
        stride: step between tiles in chip pixels (default: `grid`).
        detect: options of the detector of bright objects.
        layer: layer of the positions, if their file has several.
    """

    at: Path | None = None
    crs: str | None = None
    grid: int | None = None
    stride: int | None = None
    detect: CfarOptions | None = None
    layer: str | None = None

    def __post_init__(self) -> None:
        options = [name for name in ("at", "grid", "detect") if getattr(self, name) is not None]
        if len(options) > 1:
            message = f"--{' and --'.join(options)} cannot be used together"
            raise RequestError(message, hint="choose one of --at, --grid and --detect")
        if self.stride is not None and self.grid is None:
            raise RequestError("--stride needs --grid", "--stride", "give --grid as well")
        for option, value in {"--at-crs": self.crs, "--layer": self.layer}.items():
            if value is not None and self.at is None:
                raise RequestError(f"{option} needs positions", option, "give --at as well")

    @property
    def reads_scenes(self) -> bool:
        """Whether the inputs are scenes."""
        return self.at is not None or self.grid is not None or self.detect is not None

    @property
    def tile_step(self) -> float | None:
        """Step between tiles as a fraction of their size, at most 1; None without `grid`."""
        return None if self.grid is None else min((self.stride or self.grid) / self.grid, 1.0)


class ScenePlan(NamedTuple):
    """The chips that are cut from scenes.

    Attributes:
        sources: one source per scene.
        scenes: the scenes.
        rejected: positions that cannot be used.
        notes: remarks for the reader.
        positions: the locations in each scene.
    """

    sources: list[SceneChips]
    scenes: list[RasterScene]
    rejected: list[Rejection]
    notes: list[str]
    positions: list[SceneLocations]


def plan_scenes(
    names: Sequence[SceneUri | Path],
    query: SceneQuery,
    options: ChipOptions,
    declaration: Declaration,
    contract: Contract,
    *,
    journal: ResumeJournal,
    product_options: ProductOptions = DEFAULT_OPTIONS,
    chips_dir: Path | None = None,
    progress: Progress | None = None,
) -> ScenePlan:
    """Find the locations of all chips in scenes.

    Args:
        names: the scenes.
        query: where chips are cut.
        options: size of chips and of their pixels.
        declaration: unit and bands of the scenes.
        contract: bands, units and size of the chips.
        journal: stores detected objects, so that a resumed job does not detect them again.
        product_options: how the values of the scenes are read.
        chips_dir: folder in which the chips are saved; None does not save them.
        progress: called with numbers of windows of a scene while objects are detected.

    Returns:
        The chip sources, with rejected positions and notes.

    Raises:
        RequestError: an option contradicts the contract or the positions.
        DataError: a scene cannot be read or does not fulfill the contract.
        NetworkError: a server does not send a scene.
    """
    scenes = [select_scene_unit(open_scene(name, product_options), contract, declaration.unit) for name in names]
    stems = [scene.name for scene in scenes]
    repeated = sorted({stem for stem in stems if stems.count(stem) > 1})
    if repeated:
        raise RequestError(
            f"two scenes have the name {repeated[0]}", hint="classify them one at a time, or rename one of them"
        )
    plan = ScenePlan([], scenes, [], [], [])
    in_pixels = all(scene.georeference is None for scene in scenes)
    for scene in scenes:
        check_scene_bands(scene, contract, declaration)
        locations, window = _find_locations(scene, query, options, declaration, contract, journal, progress)
        spacing = resolve_spacing(scene.spacing, options)
        if spacing is not None:
            spacing = spacing[0] * window.scale[0], spacing[1] * window.scale[1]
        source = SceneChips(
            scene,
            locations.locations,
            contract,
            window,
            spacing,
            declaration=declaration,
            in_pixels=in_pixels,
            is_tiled=query.grid is not None,
            is_detected=query.detect is not None,
            chips_dir=chips_dir,
        )
        plan.sources.append(source)
        plan.positions.append(locations)
        plan.rejected.extend(locations.rejected)
        plan.notes.extend(_scene_notes(scene, spacing, contract) + locations.notes)
        if source.edge_chips:
            plan.notes.append(f"chips that reach over the edge of {scene.path.name}: {source.edge_chips:,}")
    return plan


def _find_locations(
    scene: RasterScene,
    query: SceneQuery,
    options: ChipOptions,
    declaration: Declaration,
    contract: Contract,
    journal: ResumeJournal,
    progress: Progress | None,
) -> tuple[SceneLocations, ChipWindow]:
    if query.at is not None:
        locations = read_positions(query.at, scene, query.crs, query.layer)
        has_points = any(location.box is None for location in locations.locations)
        return locations, make_chip_window(contract, scene, options, has_points)
    if query.grid is not None:
        return _tile(scene, query.grid, query.stride or query.grid, options, contract)
    assert query.detect is not None
    window = make_chip_window(contract, scene, options, has_points=True)
    key = f"detected in {scene.name}"
    record = journal.get_note(key)
    if record is None:
        from rsft.inference.detection.detector import detect_bright_objects  # SciPy

        record = json.dumps(asdict(detect_bright_objects(scene, query.detect, window, declaration, contract, progress)))
        journal.set_note(key, record)
    objects = json.loads(record)
    locations = [Location(**{**row, "box": tuple(row["box"])}) for row in objects["locations"]]
    return SceneLocations(locations, [], objects["notes"], are_boxes=True), window


def _tile(
    scene: RasterScene, size: int, stride: int, options: ChipOptions, contract: Contract
) -> tuple[SceneLocations, ChipWindow]:
    if contract.crop not in (None, size):
        message = f"tiles have {size} pixels, but the model takes the middle {contract.crop} pixels of a chip"
        raise RequestError(message, "--grid", f"give --grid {contract.crop}")
    window = make_chip_window(contract, scene, replace(options, side=size, margin=None), has_points=False)
    scaled_size, scaled_stride = ((x * window.scale[0], x * window.scale[1]) for x in (size, stride))
    return tile_locations(scene, scaled_size, scaled_stride), window


def _scene_notes(scene: RasterScene, spacing: tuple[float, float] | None, contract: Contract) -> list[str]:
    name, notes = scene.path.name, []
    if scene.georeference is None:
        notes.append(f"{name} has no georeference: coordinates are in pixels")
    else:
        notes.append(f"georeference of {name}: {scene.georeference.description}")
    if scene.assets:
        notes.append(f"assets of the item {name}: {', '.join(scene.assets)}")
    notes += product_notes(scene)
    if spacing is None and contract.spacing_m is not None:
        notes.append(
            f"the pixel spacing of {name} is unknown, so it is not compared with the model's {contract.spacing_m:g} m"
        )
    return notes
