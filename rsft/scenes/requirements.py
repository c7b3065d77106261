"""What a model or a chip store needs of a scene: its unit, its bands, its spacing."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from rsft.data.imagery.chip_spec import ChipSpec
from rsft.data.imagery.reader import check_declared_bands
from rsft.data.imagery.units import DIGITAL_UNITS, UNIT_HINT
from rsft.errors import DataError, RequestError
from rsft.scenes.chip_size import resampling_factors, resolve_spacing
from rsft.scenes.options import ChipOptions, Declaration
from rsft.scenes.raster import RasterScene, declare_unit
from rsft.scenes.windows import default_size


def select_unit(
    scene: RasterScene, spec: ChipSpec | None, unit: str | None
) -> RasterScene:
    """Return a scene that is read in the declared unit, or in one that is needed.

    The first of these is used: the declared unit; the unit of the stored values; that
    of their sensor's digital numbers; their data type, if digital numbers are accepted;
    a unit to which the product has a calibration.

    Args:
        scene: the scene.
        spec: accepted units; None prefers sigma0, if the product has a calibration.
        unit: the unit that the user declares; None if not declared.

    Returns:
        The scene with its unit. With a specification, the unit stays None if neither
        the user nor the file declares it.

    Raises:
        RequestError: the declared unit contradicts the file, or the values need a unit.
    """
    if unit is not None:
        return declare_unit(scene, unit)
    calibrations = scene.product.calibrations
    if not spec:
        scene = scene.in_unit("sigma0" if "sigma0" in calibrations else scene.unit)
        if scene.unit is None and scene.dtype not in DIGITAL_UNITS:
            raise RequestError(
                f"{scene.dtype} pixels without a unit", scene.path, UNIT_HINT
            )
        return scene
    if _accepts(spec, scene.dtype, scene.unit):
        return scene
    digital_unit = scene.product.digital_unit
    if digital_unit and _accepts(spec, scene.stored_dtype, digital_unit):
        return scene.in_unit(digital_unit)
    stored = scene.stored_dtype
    if stored in DIGITAL_UNITS and _accepts(spec, stored, None):
        return replace(scene, unit=None, dtype=stored)  # without scale and offset
    for name in calibrations:
        if _accepts(spec, "float32", name):
            return scene.in_unit(name)
    return scene.in_unit(scene.unit)


def _accepts(spec: ChipSpec, dtype: str, unit: str | None) -> bool:
    try:
        spec.check_header(dtype, len(spec.used_bands), unit)
    except DataError:
        return False
    return True


def check_scene(
    scene: RasterScene,
    spec: ChipSpec,
    declaration: Declaration,
    options: ChipOptions | None = None,
) -> list[int]:
    """Check bands, unit and spacing of a scene, and report all faults together.

    Args:
        scene: the scene.
        spec: what its chips must be.
        declaration: bands and unit of the scene, if the file does not name them.
        options: the user's options for chips, to check their pixel spacing and their
            size as well.

    Returns:
        Indices of the bands to read, in the order of `ChipSpec.used_bands`.

    Raises:
        RequestError: nothing says how large a chip is.
        DataError: bands, unit or spacing are not those of the specification, or the
            file contradicts the declared names.
    """
    names = declaration.bands or scene.bands
    count = len(spec.used_bands)
    indices = []
    errors: list[DataError | RequestError] = []
    with _collect(errors):
        check_declared_bands(declaration.bands, scene.bands, scene.path)
        indices = spec.band_indices(scene.count, names)
        is_gray = scene.count == 3 and names is None and count == 1
        if not is_gray:  # the pixels show whether three bands are one
            count = len(indices)
    with _collect(errors):
        spec.check_header(scene.dtype, count, declaration.unit or scene.unit)
    if options:
        with _collect(errors):
            resampling_factors(spec, resolve_spacing(scene.spacing, options), options)
        with _collect(errors):
            if not options.size:
                default_size(spec)
    if not errors:
        return indices
    if len(errors) == 1 and isinstance(errors[0], RequestError):
        raise errors[0]
    message = "; ".join(error.message for error in errors)
    hint = "; ".join(error.hint for error in errors)
    raise DataError(message, scene.path, hint) from errors[0]


@contextmanager
def _collect(errors: list[DataError | RequestError]) -> Iterator[None]:
    """Keep an error that is raised in the block."""
    try:
        yield
    except (DataError, RequestError) as error:
        errors.append(error)
