"""Get the pixels of corrected chips, from their files or by cutting them from the scene again, if they fit a store."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import shapely

from rsft.data.chips.builder import encode_chip, resolve_unit
from rsft.data.chips.store import ChipStore
from rsft.data.imagery.contract import IDENTITY_STRETCH, Contract
from rsft.data.imagery.products.options import ProductOptions
from rsft.data.imagery.reader import check_declared_bands, read_band_names, read_chip, read_tiff_tags, unit_from_tags
from rsft.data.imagery.scene_uri import SceneUri
from rsft.errors import DataError, RsftError
from rsft.inference.corrections.corrected_table import CorrectedRow, CorrectedTable
from rsft.inference.options import UNDECLARED, Declaration
from rsft.inference.predict.chip_files import read_declarations
from rsft.inference.predict.result_table import scene_fingerprint
from rsft.inference.predict.scene_chips import SCENE_TAG, SceneChips, select_scene_unit
from rsft.inference.scenes.georeference import read_georeference
from rsft.inference.scenes.locations import ChipWindow, Location
from rsft.inference.scenes.raster import RasterScene, open_scene
from rsft.models.contract_fitting import common_spacing
from rsft.types import Pixels

_MANIFEST = "manifest.parquet"
_NO_RECORD = (
    "the chip was not saved, and the table does not say how to cut it again: predict with --chips, or write .gpkg"
)
_FOREIGN_TABLE = (
    "the table is not one that rsft predict wrote, or a copy without its metadata: give the file of rsft predict itself"
)


class StoreFit:
    """The requirements of a store on its chips.

    Attributes:
        bands: names of the bands.
        units: units of the chips.
        spacing_m: pixel spacing in meters; None if it varies or is unknown.
    """

    def __init__(self, store: ChipStore) -> None:
        self.bands, self.units = store.bands, store.units
        self.spacing_m = common_spacing(pd.to_numeric(store.table["spacing_m"]).to_numpy(float).tolist())

    def contract(self, side: int | None) -> Contract:
        """Return a contract for chips with all bands of the store, in one of its units.

        Args:
            side: side of the chips in pixels; None if it varies.
        """
        count = len(self.bands)
        return Contract(
            units={unit: (IDENTITY_STRETCH,) * count for unit in self.units},
            bands=self.bands,
            planes=self.bands,
            crop=side,
            size=side or 1,
            mean=(0.0,) * count,
            std=(1.0,) * count,
        )

    def select_bands(self, pixels: Pixels, names: tuple[str, ...] | None) -> Pixels:
        """Select the bands of the store.

        Args:
            pixels: the chip (H, W, B).
            names: names of its bands; None if they are unknown: then it must have as many as the store.

        Returns:
            Pixels (H, W, B).

        Raises:
            DataError: bands are missing.
        """
        count, needed = pixels.shape[2], ", ".join(self.bands)
        may_be_gray = len(self.bands) == 1 and names in (None, ("R", "G", "B")) and count == 3
        if may_be_gray and (pixels == pixels[:, :, :1]).all():
            return pixels[:, :, :1]
        if names is None:
            if count != len(self.bands):
                raise DataError(f"{count} bands without names, but the store has {needed}", hint="name them: --bands")
            return pixels
        if len(names) != count:
            raise DataError(f"{count} bands, but {len(names)} names ({', '.join(names)})")
        if self.bands == ("gray",) and count == 1:
            return pixels
        if not set(self.bands) <= set(names):
            raise DataError(f"bands {', '.join(names)}, but the store has {needed}")
        return pixels if names == self.bands else pixels[:, :, [names.index(name) for name in self.bands]]

    def check_unit(self, pixels: Pixels, *units: str | None) -> str:
        """Return the unit of a chip after a check.

        Args:
            pixels: the chip (H, W, B).
            *units: units that user, store, file and table declare, the most certain one first; None if they do not.

        Returns:
            The first declared unit. For integers, the first that the store has, or else their data type.

        Raises:
            DataError: the store has another unit, or the values cannot be in this unit.
        """
        is_float, listed = pixels.dtype.kind == "f", " or ".join(self.units)
        declared = [unit for unit in units if unit and (is_float or unit in self.units)]
        if is_float and not declared:
            raise DataError(f"{pixels.dtype} pixels without a unit, but the store has {listed}; give --unit")
        unit = resolve_unit(pixels, declared[0] if declared else None)
        if unit not in self.units:
            raise DataError(f"{unit} pixels, but the store has {listed}")
        return unit

    def check_spacing(self, spacing: tuple[float, float] | None) -> float | None:
        """Return the pixel spacing for the manifest after a check.

        Args:
            spacing: pixel spacing in meters along columns and along rows; None if it is unknown.

        Returns:
            The spacing of the store, if it has one; else that of the chip, if it is known.

        Raises:
            DataError: the chip has another spacing than the store.
        """
        if spacing is None:
            return None
        try:
            self.contract(None).model_copy(update={"spacing_m": self.spacing_m}).check_spacing(spacing)
        except DataError as error:
            message = error.message.replace("the model was trained on", "the store has")
            raise DataError(message) from error
        return self.spacing_m or round(float(np.mean(spacing)), 4)


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
        self._scenes: dict[str, SceneChips | DataError] = {}
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
        header = read_tiff_tags(path, lambda file: _read_header(path, file)) or _Header()
        resolved, stored = path.resolve(), UNDECLARED
        store = next((folder for folder in resolved.parents if (folder / _MANIFEST).is_file()), None)
        if store is not None:  # the manifest of a chip store says what its chips are
            if store not in self._stores:
                self._stores[store] = read_declarations(store)
            stored = self._stores[store].get(resolved, UNDECLARED)
        check_declared_bands(self.declaration.bands, header.bands or stored.bands, path)
        pixels = read_chip(path)
        selected = self.fit.select_bands(pixels, self.declaration.bands or stored.bands or header.bands)
        declared = self.declaration.unit
        if declared and header.unit and declared != header.unit and selected.dtype.kind == "f":
            raise DataError(f"the file declares {header.unit}, but --unit is {declared}; leave out --unit")
        cut = self._records.get(row.scene, {})
        predicted = self.table.metadata.get("request", {}).get("declaration") or {}
        unit = self.fit.check_unit(selected, declared, stored.unit, header.unit, cut.get("unit"), predicted.get("unit"))
        spacing_m = self.fit.check_spacing(header.spacing or _square(stored.spacing_m))
        is_whole = selected is pixels
        data, suffix = (path.read_bytes(), path.suffix.lower()) if is_whole else encode_chip(selected)
        return CorrectedChip(selected, unit, spacing_m, data, suffix, row.scene or header.scene)

    def _cut(self, row: CorrectedRow) -> CorrectedChip:
        if row.scene not in self._records or not np.isfinite([row.row, row.col]).all():
            keeps_metadata = self.table.path.suffix.lower() != ".csv"
            raise DataError(_FOREIGN_TABLE if keeps_metadata and not self.table.metadata else _NO_RECORD)
        if row.scene not in self._scenes:
            try:
                self._scenes[row.scene] = self._open_scene(row.scene)
            except RsftError as error:
                message = error.message.replace("the model takes", "the store has")
                self._scenes[row.scene] = DataError(f"{row.scene}: {message}")
        chips = self._scenes[row.scene]
        if isinstance(chips, DataError):
            raise DataError(chips.message)
        number = next((i for i, location in enumerate(chips.locations) if location.name == str(row.line)), None)
        if number is None:
            raise DataError(f"the center lies outside of {row.scene}")
        chip = chips.read(number)
        unit = self.fit.check_unit(chip.pixels, chip.unit)
        spacing_m = self.fit.check_spacing(chips.spacing)
        data, suffix = encode_chip(chip.pixels)
        return CorrectedChip(chip.pixels, unit, spacing_m, data, suffix, row.scene)

    def _open_scene(self, name: str) -> SceneChips:
        record, request = self._records[name], self.table.metadata.get("request", {})
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
        locations = [
            Location(row.row, row.col, _find_box(row, scene), str(row.line))
            for row in self.table.rows
            if row.scene == name and 0 <= row.row < scene.height and 0 <= row.col < scene.width
        ]
        return SceneChips(
            scene,
            locations,
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


def _read_header(path: Path, file: Any) -> _Header:
    georeference = read_georeference(file)
    spacing = georeference.spacing_at(file.height / 2, file.width / 2) if georeference else None
    return _Header(read_band_names(file), unit_from_tags(file.units, path), spacing, file.tags().get(SCENE_TAG, ""))


def _find_box(row: CorrectedRow, scene: RasterScene) -> tuple[float, ...] | None:
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
