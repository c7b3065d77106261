"""The records of chips that are cut from scenes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from rsft.data.chips.record import ChipRecord
from rsft.data.imagery.products.product import find_product
from rsft.data.imagery.reader import check_values
from rsft.data.imagery.scene_uri import SceneUri
from rsft.data.imagery.units import DIGITAL_UNITS, UNIT_HINT
from rsft.errors import DataError, RequestError
from rsft.inference.predict.inputs import find_scenes
from rsft.inference.predict.lengths import box_sides
from rsft.inference.preparation.labels import BACKGROUND, LabeledObject, group_of
from rsft.inference.preparation.placement import common_spacing_of, spacing_of
from rsft.scenes.locations import ChipWindow, Location, cut_chip
from rsft.scenes.raster import (
    RASTER_SUFFIXES,
    PixelWindow,
    RasterScene,
    declare_unit,
    open_scene,
)
from rsft.scenes.reader import SceneReader
from rsft.types import Pixels, Progress
from rsft.utils.operating_system import walk_files


def open_scenes(
    sources: Sequence[Path], unit: str | None, progress: Progress | None
) -> Iterator[RasterScene]:
    """Open the scenes of files, folders, patterns and lists.

    Args:
        sources: the files, folders, patterns and lists; a scene that is in several of
            them is opened once.
        unit: the unit that the user declares.
        progress: called after each scene.

    Yields:
        The scenes, in the unit in which their chips are stored.
    """
    scenes = list(
        dict.fromkeys(uri for source in sources for uri in _find_scenes(source))
    )
    names = Counter(uri.stem.removesuffix(".SAFE") for uri in scenes)
    repeated = [name for name, count in names.items() if count > 1]
    if repeated:
        raise RequestError(
            f"{names[repeated[0]]} scenes have the name {repeated[0]}",
            sources[0],
            "rename them",
        )
    for number, uri in enumerate(scenes, 1):
        yield _in_unit(open_scene(uri), unit)
        if progress is not None:
            progress(number, len(scenes), "reading labels")


def _find_scenes(source: Path) -> list[SceneUri]:
    """Return the scenes of a file, folder, pattern or list.

    Raises:
        RequestError: there is none, or one is not on this machine.
    """
    if source.is_dir() and find_product(source) is None:
        paths = [Path(name) for name in walk_files(source)]
        parents = {
            parent
            for path in paths
            for parent in path.parents
            if source in parent.parents
        }
        folders = [parent for parent in parents if _is_product(parent)]
        files = [path for path in paths if path.suffix.lower() in RASTER_SUFFIXES]
        inside = [
            path for path in files if any(folder in path.parents for folder in folders)
        ]
        scenes = [
            SceneUri(str(path)) for path in sorted({*files, *folders} - {*inside})
        ]
    else:
        scenes = find_scenes([source])
    if not scenes:
        raise RequestError(
            "no scenes",
            source,
            f"a folder must contain rasters, such as {' '.join(RASTER_SUFFIXES)}",
        )
    remote = [uri for uri in scenes if uri.path is None]
    if remote:
        raise RequestError(
            "scenes are files for this command", remote[0], "download the scene"
        )
    return scenes


def _is_product(folder: Path) -> bool:
    """Return whether a folder is one product; of one with several or a damaged one, the rasters are scenes."""
    try:
        return find_product(folder) is not None
    except DataError:
        return False


def _in_unit(scene: RasterScene, unit: str | None) -> RasterScene:
    """Return a scene in the declared unit; else as sigma0 if its product has a calibration; else as it is stored."""
    if unit is not None:
        return declare_unit(scene, unit)
    scene = scene.in_unit(
        "sigma0" if "sigma0" in scene.product.calibrations else scene.unit
    )
    if scene.unit is None and scene.dtype not in DIGITAL_UNITS:
        raise RequestError(
            f"{scene.dtype} pixels without a unit", scene.path, UNIT_HINT
        )
    return scene


def make_record(
    item: LabeledObject,
    window: ChipWindow,
    split: str,
    *,
    labels: Path,
    by: str,
    bands: tuple[str, ...] | None,
    spacing: float | None,
) -> ChipRecord:
    """Make the record of a chip, whose pixels are cut when it is stored.

    Args:
        item: the object.
        window: size of the chips of its scene.
        split: its split.
        labels: file or folder of its label.
        by: what is divided between the splits, see `assign_splits`.
        bands: bands to store, or names of all bands.
        spacing: pixel spacing in meters of a scene without a georeference.

    Returns:
        The record, with the columns of the manifest.
    """
    scene = item.scene
    location = item.location
    path = scene.path.path
    assert path is not None
    area = window.window_at(location)
    is_cut = (
        area.top < 0
        or area.left < 0
        or area.bottom > scene.height
        or area.right > scene.width
    )
    names = scene.bands or (bands if bands and len(bands) == scene.count else None)
    return ChipRecord(
        name=location.name,
        split=split,
        label=item.label,
        source_path=path,
        read_pixels=partial(_cut, str(scene.path), scene.unit, window, location),
        line=location.source_row or 0,
        bands=names,
        extra_columns=_columns(item, area, group_of(item, by), spacing)
        | {"flags": "edge" if is_cut else ""},
        image_paths=(labels,),
        selected_bands=bands if names else None,
    )


def _columns(
    item: LabeledObject, area: PixelWindow, group: str, spacing: float | None
) -> dict[str, Any]:
    """Return the columns of the manifest that say what the chip shows, where and when."""
    scene = item.scene
    location = item.location
    meters = spacing_of(scene, spacing)
    columns: dict[str, Any] = {
        **{
            "group_key": group,
            "source": scene.path.name,
            "sensor": None if scene.product.kind == "raster" else scene.product.kind,
            "unit": scene.unit,
        },
        **{"spacing_m": common_spacing_of(scene, spacing), "mmsi": item.vessel},
        **{
            "acquired": scene.product.acquired,
            "pass_direction": scene.product.pass_direction,
        },
        **{"row": location.row, "col": location.col, "source_row": location.source_row},
        **{"ais_confidence": item.confidence},
    }
    row = np.array([location.row])
    col = np.array([location.col])
    if scene.product.incidence is not None:
        columns["incidence_deg"] = float(scene.product.incidence(row, col)[0])
    if scene.georeference is not None:
        columns["lon"], columns["lat"] = scene.georeference.pixels_to_lonlat(row, col)[
            0
        ].tolist()
    if location.box is not None and item.label != BACKGROUND:
        corners = np.reshape(location.box, (4, 2))
        columns["box"] = (corners - area[:2])[:, ::-1].ravel().tolist()
        if meters is not None:
            columns |= box_sides(location.box, meters, scene.georeference)
    return {
        name: value
        for name, value in columns.items()
        if value is not None and value == value
    }


def _cut(path: str, unit: str | None, window: ChipWindow, location: Location) -> Pixels:
    """Cut a chip in a worker process."""
    pixels = cut_chip(_open_reader(path, unit), window, location).pixels
    check_values(pixels, path)
    return pixels


@lru_cache(maxsize=1)
def _open_reader(path: str, unit: str | None) -> SceneReader:
    """Open a scene; consecutive chips are of the same one."""
    return SceneReader(open_scene(path).in_unit(unit))
