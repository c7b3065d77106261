"""Get the pixels of corrected chips: from their files, or by cutting them from the scene again."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import shapely
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from rsft.data.chips.builder import encode_chip
from rsft.data.imagery.products.product import ProductOptions
from rsft.data.imagery.rasters import check_declared_bands, open_raster, read_band_names, unit_from_tags
from rsft.data.imagery.reader import read_chip
from rsft.data.imagery.scene_uri import SceneUri
from rsft.errors import DataError, RsftError
from rsft.inference.corrections.corrected_table import CorrectedRow, CorrectedTable
from rsft.inference.corrections.store_fit import StoreFit
from rsft.inference.inputs.discovery import UNDECLARED, Declaration, read_declarations
from rsft.inference.inputs.scene_chips import SCENE_TAG, SceneChips
from rsft.inference.predict.request import scene_fingerprint
from rsft.inference.predict.scene_plan import select_scene_unit
from rsft.inference.scenes.chip_window import ChipWindow
from rsft.inference.scenes.georeference import read_georeference
from rsft.inference.scenes.locations import Location
from rsft.inference.scenes.raster import RasterScene, open_scene
from rsft.types import Pixels

_MANIFEST = "manifest.parquet"
_NO_RECORD = (
    "the chip was not saved, and the table does not say how to cut it again: predict with --chips, or write .gpkg"
)
_FOREIGN_TABLE = (
    "the table is not one that rsft predict wrote, or a copy without its metadata: give the file of rsft predict itself"
)


class CorrectedChip(NamedTuple):
    """The pixels of a corrected row, as they are stored.

    Attributes:
        pixels: (H, W, B), with the bands of the store.
        unit: unit of the pixels.
        spacing_m: pixel spacing in meters; None if it is unknown.
        data: content of the file.
        suffix: suffix of the file.
        scene: name of the scene; "" if it is unknown.
    """

    pixels: Pixels
    unit: str
    spacing_m: float | None
    data: bytes
    suffix: str
    scene: str


class ChipCutter:
    """Gets the pixels of corrected rows.

    Args:
        table: the corrected table.
        fit: the requirements of the store.
        declaration: unit and bands of the chip files, as the user declares them.
    """

    def __init__(self, table: CorrectedTable, fit: StoreFit, declaration: Declaration) -> None:
        self.table, self.fit, self.declaration = table, fit, declaration
        self._records = {str(record["scene"]): record for record in table.metadata.get("cuts", ())}
        self._scenes: dict[str, SceneChips | RsftError] = {}
        self._stores: dict[Path, dict[Path, Declaration]] = {}

    def read(self, row: CorrectedRow) -> CorrectedChip:
        """Return the chip of a row. Its file is preferred; if it lacks bands or is missing, the scene is read.

        Args:
            row: a row with a label.

        Raises:
            DataError: the chip does not fit the store, or neither file nor scene can be read.
        """
        file = self._find_file(row)
        if file is None:
            return self._cut(row)
        try:
            return self._read_file(row, file)
        except DataError as fault:
            if row.scene not in self._records:
                raise
            try:
                return self._cut(row)
            except DataError:
                raise fault from None

    def close(self) -> None:
        """Close all scenes."""
        for chips in self._scenes.values():
            if isinstance(chips, SceneChips):
                chips.close()

    def _find_file(self, row: CorrectedRow) -> Path | None:
        """Return the file of a chip; None if the path is that of the scene, or the chip must be cut again."""
        if not row.path:
            return None
        record = self._records.get(row.scene)
        if row.chip and row.scene and Path(row.path).name != f"{row.chip}.tif":  # the path is that of the scene
            return None
        folder, path = self.table.path.parent, Path(row.path)
        candidates = [folder / path, path, folder / path.parent.name / path.name]  # the table may have been moved
        file = next((path for path in candidates if path.is_file()), None)
        if file is None and record is None:
            raise DataError(f"the file does not exist: {candidates[0].absolute()}")
        return file

    def _read_file(self, row: CorrectedRow, path: Path) -> CorrectedChip:
        header = _read_header(path)
        stored = self._stored_declaration(path)
        check_declared_bands(self.declaration.bands, header.bands or stored.bands, path)
        pixels = read_chip(path)
        selected = self.fit.select_bands(pixels, self.declaration.bands or stored.bands or header.bands)
        unit = self._unit_of(row, selected, stored, header)
        spacing_m = self.fit.check_spacing(header.spacing or _square(stored.spacing_m))
        if selected is pixels:
            data, suffix = path.read_bytes(), path.suffix.lower()
        else:
            data, suffix = encode_chip(selected)
        return CorrectedChip(selected, unit, spacing_m, data, suffix, row.scene or header.scene)

    def _unit_of(self, row: CorrectedRow, pixels: Pixels, stored: Declaration, header: _Header) -> str:
        """Return the unit of a chip file. Only floats need a declaration: integers have their data type as unit."""
        declared, tag = self.declaration.unit, header.unit
        if declared and tag and declared != tag and pixels.dtype.kind == "f":
            raise DataError(f"the file declares {tag}, but --unit is {declared}; leave out --unit")
        record = self._records.get(row.scene, {})
        predicted = self.table.metadata.get("request", {}).get("declaration") or {}
        return self.fit.check_unit(pixels, declared, stored.unit, tag, record.get("unit"), predicted.get("unit"))

    def _stored_declaration(self, path: Path) -> Declaration:
        """Return what the manifest of a chip store says about a chip in it."""
        path = path.resolve()
        store = next((folder for folder in path.parents if (folder / _MANIFEST).is_file()), None)
        if store is None:
            return UNDECLARED
        if store not in self._stores:
            self._stores[store] = read_declarations(store)
        return self._stores[store].get(path, UNDECLARED)

    def _cut(self, row: CorrectedRow) -> CorrectedChip:
        if row.scene not in self._records or not np.isfinite([row.row, row.col]).all():
            keeps_metadata = self.table.path.suffix.lower() != ".csv"
            raise DataError(_FOREIGN_TABLE if keeps_metadata and not self.table.metadata else _NO_RECORD)
        if row.scene not in self._scenes:
            self._scenes[row.scene] = self._open_scene(row.scene)
        chips = self._scenes[row.scene]
        if isinstance(chips, RsftError):
            raise DataError(chips.message)
        number = next((i for i, location in enumerate(chips.locations) if location.name == str(row.line)), None)
        if number is None:
            raise DataError(f"the center lies outside of {row.scene}")
        chip = chips.read(number)
        unit = self.fit.check_unit(chip.pixels, chip.unit)
        spacing_m = self.fit.check_spacing(chips.spacing)
        data, suffix = encode_chip(chip.pixels)
        return CorrectedChip(chip.pixels, unit, spacing_m, data, suffix, row.scene)

    def _open_scene(self, name: str) -> SceneChips | RsftError:
        try:
            return self._make_chips(self._records[name], [row for row in self.table.rows if row.scene == name])
        except RsftError as error:
            message = error.message.replace("the model takes", "the store has")
            return DataError(f"{name}: {message}")

    def _make_chips(self, record: Mapping[str, Any], rows: Sequence[CorrectedRow]) -> SceneChips:
        request = self.table.metadata.get("request", {})
        uri = SceneUri.parse(record["path"])
        if not uri.is_remote and (uri.path is None or not uri.path.exists()):
            raise DataError(f"the scene does not exist: {uri}")
        if record["fingerprint"] != scene_fingerprint(uri):
            raise DataError("the scene has changed since the prediction; predict it again")
        contract = self.fit.contract(record["side"])
        unit = record["unit"] if record["unit"] in self.fit.units else None
        scene = select_scene_unit(open_scene(uri, ProductOptions(**request.get("product_options", {}))), contract, unit)
        names = (request.get("declaration") or {}).get("bands")
        scale = (float(record["scale"][0]), float(record["scale"][1]))
        spacing = scene.spacing or _square((request.get("chip_options") or {}).get("spacing"))
        return SceneChips(
            scene,
            [location for row in rows if (location := _location(row, scene)) is not None],
            contract,
            ChipWindow(record["side"], record["margin"], scale),
            None if spacing is None else (spacing[0] * scale[0], spacing[1] * scale[1]),
            declaration=Declaration(unit, tuple(names) if names else None),
            is_tiled=bool(record["tiles"]),
        )


class _Header(NamedTuple):
    """What a chip file declares; None if it does not."""

    bands: tuple[str, ...] | None = None
    unit: str | None = None
    spacing: tuple[float, float] | None = None
    scene: str = ""


def _read_header(path: Path) -> _Header:
    """Read names of bands, unit, spacing and scene of a TIFF file."""
    if path.suffix.lower() not in (".tif", ".tiff"):
        return _Header()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        try:
            with open_raster(str(path)) as file:
                georeference = read_georeference(file)
                spacing = georeference.spacing_at(file.height / 2, file.width / 2) if georeference else None
                unit = unit_from_tags(file.units, path)
                return _Header(read_band_names(file), unit, spacing, file.tags().get(SCENE_TAG, ""))
        except (RasterioError, UnicodeEncodeError):  # GDAL cannot open file names that are not UTF-8
            return _Header()


def _location(row: CorrectedRow, scene: RasterScene) -> Location | None:
    """Return the location of a row in its scene; None if it has no center in the scene."""
    if not (0 <= row.row < scene.height and 0 <= row.col < scene.width):
        return None
    return Location(row.row, row.col, _box(row, scene), str(row.line))


def _box(row: CorrectedRow, scene: RasterScene) -> tuple[float, ...] | None:
    """Return the corners of the rectangle around the object in pixels; None for a point."""
    if row.shape is None or row.shape.geom_type != "Polygon":
        return None
    xy = shapely.get_coordinates(row.shape)[:4]
    if scene.georeference is None:
        corners = np.column_stack([-xy[:, 1], xy[:, 0]])
    else:
        corners = scene.georeference.lonlat_to_pixels(xy[:, 0], xy[:, 1])
    return tuple(corners.ravel().tolist()) if corners.shape == (4, 2) else None


def _square(spacing_m: Any) -> tuple[float, float] | None:
    return None if spacing_m is None else (float(spacing_m), float(spacing_m))
