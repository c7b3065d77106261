"""Decide in which unit a scene is read."""

from __future__ import annotations

from rsft.data.imagery.contract import Contract
from rsft.data.imagery.units import DIGITAL_UNITS, parse_unit
from rsft.errors import DataError, RequestError
from rsft.inference.scenes.raster import RasterScene


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
