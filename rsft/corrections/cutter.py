"""Read the chips of a corrected table: from their files, or from the scene again."""

from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import shapely

from rsft.corrections.chip_header import read_chip_header
from rsft.corrections.corrected_table import CorrectedRow, CorrectedTable
from rsft.corrections.sources import Sources
from rsft.data.chips.chip_content import resolve_unit
from rsft.data.chips.manifest import MANIFEST
from rsft.data.chips.store import ChipStore
from rsft.data.imagery import reader
from rsft.data.imagery.chip_spec import ChipSpec
from rsft.data.imagery.products.options import ProductOptions
from rsft.data.imagery.scene_uri import SceneUri
from rsft.errors import DataError, RequestError, RsftError
from rsft.models.contract_fitting import common_spacing
from rsft.scenes.chip_size import resolve_spacing
from rsft.scenes.fingerprint import allow_scene
from rsft.scenes.inputs import read_declarations
from rsft.scenes.locations import Location
from rsft.scenes.options import UNDECLARED, ChipOptions, Declaration
from rsft.scenes.raster import RasterScene, open_scene
from rsft.scenes.reader import SceneReader
from rsft.scenes.requirements import check_scene, select_unit
from rsft.scenes.windows import ChipWindow, cut_chip
from rsft.types import Bands, Box, JsonObject, Pixels, Spacing
from rsft.utils.input_paths import exists

_NO_RECORD = (
    "the chip was not saved, and the table does not say how to cut it again: predict"
    " with --chips or write .gpkg, and give the file itself, not a copy"
)


class StoreFit:
    """What a chip of a store must be: its bands, a unit and its pixel spacing."""

    def __init__(self, store: ChipStore) -> None:
        spacings = pd.to_numeric(store.table["spacing_m"]).to_numpy(float).tolist()
        self.spec = ChipSpec(
            units=store.units,
            bands=store.bands,
            spacing_m=common_spacing(spacings),
            owner="the store",
        )

    def select_bands(self, pixels: Pixels, names: Bands | None) -> Pixels:
        """Select the bands of the store from a chip (H, W, B).

        Without names, it must have as many bands as the store.

        Raises:
            DataError: bands are missing.
        """
        if names in (None, ("R", "G", "B")):
            gray = self.spec.take_gray(pixels)
            if gray is not pixels:
                return gray
        count = pixels.shape[2]
        if names is None and count != len(self.spec.bands):
            raise DataError(
                f"{count} bands without names, but the store takes"
                f" {', '.join(self.spec.bands)}; name them with --bands"
            )
        return self.spec.select_bands(pixels, names)

    def check_unit(self, pixels: Pixels, *units: str | None) -> str:
        """Return the unit of a chip: the first declared one.

        For integers, the first that the store has, or their type.

        Args:
            pixels: the chip (H, W, B).
            *units: units that user, store, file and table declare, the most certain one
                first; None if they do not.

        Raises:
            DataError: the store has another unit, or the values cannot be in this unit.
        """
        is_float = pixels.dtype.kind == "f"
        accepted = self.spec.units
        declared = [unit for unit in units if unit and (is_float or unit in accepted)]
        unit = resolve_unit(pixels, declared[0] if declared else None)
        if unit not in accepted:
            raise DataError(
                f"{unit} pixels, but the store takes {' or '.join(accepted)}"
            )
        return unit

    def check_spacing(self, spacing: Spacing | None) -> float | None:
        """Return the pixel spacing for the manifest: that of the store or the chip.

        Raises:
            DataError: the chip has another spacing than the store.
        """
        if not spacing:
            return None
        self.spec.check_spacing(spacing)
        return self.spec.spacing_m or round(float(np.mean(spacing)), 4)


class CorrectedChip(NamedTuple):
    """The pixels of a corrected row (H, W, B), and what is known about them.

    Attributes:
        spacing_m: pixel spacing in meters; None if it is unknown.
        scene: name of the scene; "" if it is unknown.
    """

    pixels: Pixels
    unit: str
    spacing_m: float | None
    scene: str


class ChipCutter:
    """Gets the pixels of corrected rows.

    Args:
        table: the corrected table.
        fit: the requirements of the store.
        declaration: what the user declares of the chip files.
        sources: the files and addresses that the table may name.
    """

    def __init__(
        self,
        table: CorrectedTable,
        fit: StoreFit,
        declaration: Declaration,
        sources: Sources,
    ) -> None:
        self.table = table
        self.fit = fit
        self.declaration = declaration
        self.sources = sources
        self._request = table.metadata.get("request", {})
        self._records = {
            str(record["scene"]): record for record in table.metadata.get("cuts", ())
        }
        self._scenes: dict[str, _SceneCutter | str] = {}
        self._read_declarations = cache(read_declarations)

    def read(self, row: CorrectedRow) -> CorrectedChip:
        """Return the chip of a row with a label.

        If its file lacks bands or is missing, the scene is read.

        Raises:
            DataError: the chip does not fit the store, or neither file nor scene can be
                read.
            RequestError: the user does not name the folder of the file, or the server
                of the scene.
        """
        # else the path is that of the scene
        has_name = Path(row.path).name == f"{row.chip}.tif"
        is_file = has_name or not row.chip or not row.scene
        if not row.path or not is_file:
            return self._cut(row)
        can_cut = row.scene in self._records
        file = self._find_file(row, can_cut)
        if not file:
            return self._cut(row)
        try:
            return self._read_file(row, file)
        except DataError as fault:
            if not can_cut:
                raise
            try:
                return self._cut(row)
            except DataError:
                raise fault from None

    def _find_file(self, row: CorrectedRow, can_cut: bool) -> Path | None:
        """Return the file of a chip; None if it must be cut.

        The table may have been moved.
        """
        folder = self.table.path.parent
        path = Path(row.path)
        candidates = [folder / path, path, folder / path.parent.name / path.name]
        try:
            file = self.sources.find_file(candidates, f"{self.table.path}:{row.line}")
        except RequestError:
            if not can_cut:
                raise
            return None
        if not file and not can_cut:
            raise DataError(f"the file does not exist: {candidates[0].absolute()}")
        return file

    def close(self) -> None:
        """Close all scenes."""
        for scene in self._scenes.values():
            if isinstance(scene, _SceneCutter):
                scene.reader.close()

    def _read_file(self, row: CorrectedRow, path: Path) -> CorrectedChip:
        user = self.declaration
        stored = self._read_stored(path.resolve())
        header = read_chip_header(path)
        reader.check_declared_bands(user.bands, header.bands or stored.bands, path)
        names = user.bands or stored.bands or header.bands
        pixels = self.fit.select_bands(reader.read_chip(path), names)
        is_other = user.unit and header.unit not in (None, user.unit)
        if is_other and pixels.dtype.kind == "f":
            raise DataError(
                f"the file declares {header.unit}, but --unit is {user.unit}; leave"
                " out --unit"
            )
        unit = self.fit.check_unit(
            pixels,
            user.unit,
            stored.unit,
            header.unit,
            self._records.get(row.scene, {}).get("unit"),
            (self._request.get("declaration") or {}).get("unit"),
        )
        options = ChipOptions(spacing=stored.spacing_m)
        spacing = resolve_spacing(header.spacing, options)
        spacing_m = self.fit.check_spacing(spacing)
        return CorrectedChip(pixels, unit, spacing_m, row.scene or header.scene)

    def _read_stored(self, path: Path) -> Declaration:
        """Return what the manifest of a chip store says about a chip in it."""
        for folder in path.parents:
            if (folder / MANIFEST).is_file():
                return self._read_declarations(folder).get(str(path), UNDECLARED)
        return UNDECLARED

    def _cut(self, row: CorrectedRow) -> CorrectedChip:
        if row.scene not in self._records or not np.isfinite([row.row, row.col]).all():
            raise DataError(_NO_RECORD)
        if row.scene not in self._scenes:
            self._scenes[row.scene] = self._open_scene(row.scene)
        scene = self._scenes[row.scene]
        if isinstance(scene, str):
            raise DataError(scene)
        pixels = scene.cut(row)
        unit = self.fit.check_unit(pixels, scene.unit)
        spacing_m = self.fit.check_spacing(scene.spacing)
        return CorrectedChip(pixels, unit, spacing_m, row.scene)

    def _open_scene(self, name: str) -> "_SceneCutter | str":
        """Open the scene of a record, or return why it cannot be read."""
        record = self._records[name]
        uri = SceneUri.parse(record["path"])
        self.sources.check(uri)
        try:
            return _SceneCutter(uri, record, self._request, self.fit.spec)
        except RsftError as error:
            return f"{name}: {error.message}"


class _SceneCutter:
    """Cuts chips of corrected rows from a scene, as they were cut for the prediction.

    Args:
        uri: the scene.
        record: how its chips were cut, from the metadata of the predictions.
        request: the options of the prediction, from the same metadata.
        spec: what a chip of the store must be.

    Attributes:
        unit: unit of the chips; None if it is unknown.
        spacing: pixel spacing of the chips in meters, along columns and along rows;
            None if it is unknown.

    Raises:
        DataError: the scene does not exist, has changed, or does not fit the store.
    """

    def __init__(
        self,
        uri: SceneUri,
        record: JsonObject,
        request: JsonObject,
        spec: ChipSpec,
    ) -> None:
        if not uri.is_remote and not exists(uri.path or ""):
            raise DataError(f"the scene does not exist: {uri}")
        if not allow_scene(uri, record["fingerprint"]):
            raise DataError(
                "the scene has changed since the prediction; predict it again"
            )
        self.spec = spec
        unit = record["unit"] if record["unit"] in spec.units else None
        options = ProductOptions(**request.get("product_options", {}))
        scene = select_unit(open_scene(uri, options), spec, unit)
        names = (request.get("declaration") or {}).get("bands")
        declaration = Declaration(unit, tuple(names) if names else None)
        loose_spec = spec.model_copy(update={"spacing_m": None})
        self.reader = SceneReader(scene, check_scene(scene, loose_spec, declaration))
        self.unit = unit or scene.unit
        down, along = map(float, record["scale"])
        spacing = (request.get("chip_options") or {}).get("spacing")
        self.spacing = resolve_spacing(scene.spacing, ChipOptions(spacing=spacing))
        if self.spacing:
            self.spacing = self.spacing[0] * down, self.spacing[1] * along
        self.window = ChipWindow(
            record["side"], record["margin"], (down, along), scene.size
        )

    def cut(self, row: CorrectedRow) -> Pixels:
        """Return the pixels of the chip of a row (H, W, B).

        Raises:
            DataError: the center lies outside of the scene, or the chip has no data.
        """
        scene = self.reader.scene
        location = Location(row.row, row.col, _find_box(row, scene), str(row.line))
        if not location.is_inside(scene):
            raise DataError(f"the center lies outside of {row.scene}")
        pixels = cut_chip(self.reader, self.window, location).pixels
        reader.check_values(pixels, scene.path)
        return self.spec.take_gray(pixels)


def _find_box(row: CorrectedRow, scene: RasterScene) -> Box | None:
    """Return the corners of the rectangle around an object; None for a point."""
    if not isinstance(row.geometry, shapely.Polygon):
        return None
    xy = shapely.get_coordinates(row.geometry)[:4]
    corners = np.column_stack([-xy[:, 1], xy[:, 0]])
    if scene.georeference:
        corners = scene.georeference.lonlat_to_pixels(*xy.T)
    return tuple(corners.ravel().tolist())
