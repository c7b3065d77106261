"""Find the chips of a job: image files, or windows of scenes at positions, on a grid or around detected objects."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from rsft.data.imagery.contract import Contract
from rsft.data.imagery.scene_uri import SceneUri
from rsft.data.imagery.units import DIGITAL_UNITS, parse_unit
from rsft.errors import DataError, RequestError
from rsft.inference.inputs.chip_files import ChipSource
from rsft.inference.inputs.scene_chips import SceneChips, check_scene_bands, product_notes
from rsft.inference.options import PredictionRequest
from rsft.inference.predict.resume_journal import ResumeJournal
from rsft.inference.scenes.chip_window import ChipWindow, make_chip_window, resolve_spacing
from rsft.inference.scenes.georeference import LONLAT
from rsft.inference.scenes.locations import Location, SceneLocations, tile_locations
from rsft.inference.scenes.position_files import read_positions
from rsft.inference.scenes.raster import RasterScene, open_scene
from rsft.types import Progress, Rejection


@dataclass(frozen=True)
class PredictionPlan:
    """The chips of a job before the first one is read.

    Attributes:
        sources: sources of the chips, one per scene.
        scenes: scenes from which chips are cut; empty if the inputs are chips.
        rejected: positions that cannot be used.
        notes: remarks for the reader.
        positions: the locations in each scene.
    """

    sources: Sequence[ChipSource]
    scenes: list[RasterScene] = field(default_factory=list)
    rejected: list[Rejection] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    positions: list[SceneLocations] = field(default_factory=list)

    @property
    def crs(self) -> str | None:
        """Coordinate system of the geometries; None if no scene has a georeference."""
        return None if self.scenes and all(scene.georeference is None for scene in self.scenes) else LONLAT


def plan_scenes(
    names: Sequence[SceneUri | Path],
    request: PredictionRequest,
    contract: Contract,
    journal: ResumeJournal,
    progress: Progress | None = None,
) -> PredictionPlan:
    """Find the locations of all chips in scenes.

    Args:
        names: the scenes.
        request: where chips are cut, and how the scenes are read.
        contract: bands, units and size of the chips.
        journal: stores detected objects, so that a resumed job does not detect them again.
        progress: called with numbers of windows of a scene while objects are detected.

    Raises:
        RequestError: an option contradicts the contract or the positions.
        DataError: a scene cannot be read or does not fulfill the contract.
        NetworkError: a server does not send a scene.
    """
    query, unit = request.query, request.declaration.unit
    scenes = [select_scene_unit(open_scene(name, request.product_options), contract, unit) for name in names]
    stems = [scene.name for scene in scenes]
    if repeated := sorted({stem for stem in stems if stems.count(stem) > 1}):
        hint = "classify them one at a time, or rename one of them"
        raise RequestError(f"two scenes have the name {repeated[0]}", hint=hint)
    sources: list[SceneChips] = []
    plan = PredictionPlan(sources, scenes)
    in_pixels = all(scene.georeference is None for scene in scenes)
    for scene in scenes:
        check_scene_bands(scene, contract, request.declaration)
        locations, window = _find_locations(scene, request, contract, journal, progress)
        spacing = resolve_spacing(scene.spacing, request.chip_options)
        if spacing is not None:
            spacing = spacing[0] * window.scale[0], spacing[1] * window.scale[1]
        source = SceneChips(
            scene,
            locations.locations,
            contract,
            window,
            spacing,
            declaration=request.declaration,
            in_pixels=in_pixels,
            is_tiled=query.grid is not None,
            is_detected=query.detect is not None,
            chips_dir=request.chips_dir,
        )
        sources.append(source)
        plan.positions.append(locations)
        plan.rejected.extend(locations.rejected)
        plan.notes.extend(_scene_notes(scene, spacing, contract) + locations.notes)
        if source.edge_chips:
            plan.notes.append(f"chips that reach over the edge of {scene.path.name}: {source.edge_chips:,}")
    return plan


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
            hint = "leave out --unit: rsft reads the scene in a unit that the model takes"
            raise RequestError(message, scene.path, hint)
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


def _find_locations(
    scene: RasterScene,
    request: PredictionRequest,
    contract: Contract,
    journal: ResumeJournal,
    progress: Progress | None,
) -> tuple[SceneLocations, ChipWindow]:
    query, options = request.query, request.chip_options
    if query.at is not None:
        positions = read_positions(query.at, scene, query.crs, query.layer)
        has_points = any(location.box is None for location in positions.locations)
        return positions, make_chip_window(contract, scene, options, has_points)
    if query.grid is not None:
        if contract.crop not in (None, query.grid):
            message = f"tiles have {query.grid} pixels, but the model takes the middle {contract.crop} pixels of a chip"
            raise RequestError(message, "--grid", f"give --grid {contract.crop}")
        options = replace(options, side=query.grid, margin=None)
        window = make_chip_window(contract, scene, options, has_points=False)
        down, along = window.scale
        stride = query.stride or query.grid
        return tile_locations(scene, (query.grid * down, query.grid * along), (stride * down, stride * along)), window
    assert query.detect is not None
    window = make_chip_window(contract, scene, options, has_points=True)
    key = f"detected in {scene.name}"
    record = journal.get_note(key)
    if record is None:
        from rsft.inference.detection.detector import detect_bright_objects  # SciPy

        detected = detect_bright_objects(scene, query.detect, window, request.declaration, contract, progress)
        record = json.dumps(asdict(detected))
        journal.set_note(key, record)
    objects = json.loads(record)
    locations = [Location(**{**row, "box": tuple(row["box"])}) for row in objects["locations"]]
    return SceneLocations(locations, [], objects["notes"], are_boxes=True), window


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
        compared = f"so it is not compared with the model's {contract.spacing_m:g} m"
        notes.append(f"the pixel spacing of {name} is unknown, {compared}")
    return notes
