"""Add the labels of a corrected table to a chip store.

The pixels of the chips come from their files, or are cut from the scene again, if they
fit the store.
"""

import hashlib
import shlex
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import get_close_matches
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import shapely

from rsft.data.chips.additions import (
    ADDITIONS,
    AdditionResult,
    LabeledChip,
    add_chips,
    scene_key,
)
from rsft.data.chips.builder import encode_chip, resolve_unit
from rsft.data.chips.record import NO_CLASS, NOT_A_TARGET, UNSURE, resolve_label
from rsft.data.chips.store import REJECTED, ChipStore, read_dataset
from rsft.data.datasets.formats.label_rows import describe_row_fault
from rsft.data.imagery import rasters, reader
from rsft.data.imagery.chip_spec import ChipSpec
from rsft.data.imagery.products.options import ProductOptions
from rsft.data.imagery.products.product import Product
from rsft.data.imagery.scene_uri import SceneUri
from rsft.data.similarity import pixel_digest
from rsft.errors import DataError, RequestError, RsftError
from rsft.inference.corrections.corrected_table import (
    CorrectedRow,
    CorrectedTable,
    read_corrected_table,
)
from rsft.inference.options import PredictionRequest
from rsft.inference.predict.chip_files import collapse_gray_rgb
from rsft.inference.predict.fingerprint import scene_fingerprint
from rsft.inference.predict.scene_chips import SCENE_TAG, SceneChips
from rsft.models.contract_fitting import common_spacing
from rsft.scenes.georeference import read_georeference
from rsft.scenes.inputs import read_declarations
from rsft.scenes.locations import Location
from rsft.scenes.options import UNDECLARED, ChipOptions, Declaration
from rsft.scenes.query import Query
from rsft.scenes.raster import RasterScene, gdal_environment, open_scene
from rsft.scenes.requirements import select_unit
from rsft.scenes.windows import ChipWindow
from rsft.types import Pixels, Progress, Rejection
from rsft.utils.atomic_files import sha256

_MANIFEST = "manifest.parquet"
_NO_RECORD = (
    "the chip was not saved, and the table does not say how to cut it again: predict"
    " with --chips, or write .gpkg"
)
_FOREIGN_TABLE = (
    "the table is not one that rsft predict wrote, or a copy without its metadata: give"
    " the file of rsft predict itself"
)


@dataclass(frozen=True)
class AdditionOptions:
    """The options of `rsft data add`.

    Attributes:
        label_field: field of the labels in a table of predictions; None takes
            "corrected".
        not_a_target: class of chips that are not a target; None leaves them out.
        new_classes: names of classes that the store may get.
        mixed_noise: accept scenes with and without their thermal noise in one store.
        sources: files, folders and addresses whose chips and scenes may be read,
            besides the store and the folder of the table; None allows every one. A
            scene on this machine is allowed if the table has its fingerprint.
    """

    label_field: str | None = None
    not_a_target: str | None = None
    new_classes: tuple[str, ...] = ()
    declaration: Declaration = UNDECLARED
    mixed_noise: bool = False
    sources: tuple[str, ...] | None = None


@dataclass(frozen=True)
class CorrectionSummary:
    """What became of the rows of a corrected table: their number in all, without a label, unsure and not a target.

    Attributes:
        not_a_target_class: class of the rows that are not a target; None if they were
            left out.
        result: what became of the labeled rows.
    """

    table: Path
    root: Path
    rows: int
    unlabeled: int
    unsure: int
    not_a_target: int
    not_a_target_class: str | None
    result: AdditionResult


def add_corrections(
    root: Path,
    table: Path,
    options: AdditionOptions | None = None,
    progress: Progress | None = None,
) -> CorrectionSummary:
    """Join the labels of a corrected table to a chip store, all of them or none.

    Args:
        root: folder of the store.
        table: the CSV table of the review page, or a table of predictions with a field
            of labels.
        options: the user's options.
        progress: called after each chip.

    Raises:
        RequestError: the table or the store cannot be read, no row has a label, a class
            is unknown, the thermal noise was removed from some of the scenes only, or
            another process changes the store.
        DataError: all rows with a label were rejected; rejected.csv of the store lists
            them.

    Example:
        >>> summary = add_corrections(Path("data/ships"), Path("corrected.csv"))
        >>> summary.result.unchanged  # chips that the store has with the same label
        2
    """
    options = options or AdditionOptions()
    store = ChipStore.open(root)
    corrected = read_corrected_table(table, options.label_field)
    labels = [
        resolve_label(row.verdict, options.not_a_target) for row in corrected.rows
    ]
    _check_classes(
        store, table, Counter(label for label, _ in labels if label), options
    )
    unlabeled = sum(reason == NO_CLASS for _, reason in labels)
    verdicts = Counter(row.verdict for row in corrected.rows)
    labeled = [
        (row, label)
        for row, (label, _) in zip(corrected.rows, labels, strict=True)
        if label
    ]
    if not labeled:
        counts = {
            "not looked at": unlabeled,
            UNSURE: verdicts[UNSURE],
            NOT_A_TARGET: verdicts[NOT_A_TARGET],
        }
        listed = (
            ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)
            or "the table is empty"
        )
        hint = "give each chip that you looked at a class"
        if verdicts[NOT_A_TARGET]:
            hint = (
                "to learn from chips that are not a target, name their class:"
                " --not-a-target clutter"
            )
        raise RequestError(f"no row has a label ({listed})", table, hint)
    noise = _read_noise(corrected, {scene_key(row.scene) for row, _ in labeled})
    earlier = {
        note
        for addition in read_dataset(root).get(ADDITIONS, ())
        for note in addition.get("noise", ())
    }
    if (
        len({note == Product.NOISE_REMOVED for note in {*noise, *earlier}}) > 1
        and not options.mixed_noise
    ):
        listed = "; ".join(
            f"{note}: {', '.join(sorted(names)[:3])}"
            for note, names in sorted(noise.items())
        )
        listed += (
            f"; earlier additions: {', '.join(sorted(earlier))}" if earlier else ""
        )
        hint = "predict all scenes again with --read keep-noise, or add --mixed-noise"
        raise RequestError(
            f"the thermal noise was removed from some of the scenes only ({listed})",
            table,
            hint,
        )
    date = datetime.now(UTC).isoformat(timespec="seconds")
    chips, rejected = _read_chips(corrected, labeled, store, options, date, progress)
    record: dict[str, object] = {
        "date": date,
        "table": table.name,
        "table_sha256": sha256(table),
        "bundle_sha256": corrected.bundle_sha256 or None,
        "not_a_target": options.not_a_target,
        "noise": sorted(noise),
    }
    new = options.new_classes
    source = table.resolve()
    result = add_chips(
        root,
        chips,
        table=source,
        record=record,
        new_classes=new,
        rejected=rejected,
        progress=progress,
    )
    if len(result.rejected) == len(labeled):
        _, line, reason = result.rejected[0]
        raise DataError(
            f"none of the {len(labeled):,} labels can be used; line {line}: {reason}",
            root / REJECTED,
            "the file lists the reason for each row",
        )
    return CorrectionSummary(
        table=table,
        root=root,
        rows=len(corrected.rows),
        unlabeled=unlabeled,
        unsure=verdicts[UNSURE],
        not_a_target=verdicts[NOT_A_TARGET],
        not_a_target_class=options.not_a_target,
        result=result,
    )


def _read_noise(table: CorrectedTable, scenes: set[str]) -> dict[str, list[str]]:
    """Return the scenes by what the predictions say of their thermal noise; `scenes` are their keys."""
    noise: dict[str, list[str]] = {}
    for product in table.metadata.get("products") or ():
        name = str(product.get("scene") or "")
        note = str(product.get("noise") or "")
        if note and scene_key(name) in scenes:
            noise.setdefault(note, []).append(name)
    return noise


def _check_classes(
    store: ChipStore, table: Path, counts: Counter[str], options: AdditionOptions
) -> None:
    """Raise an error if the store does not have a class, with the classes that have a similar name."""
    for name in options.new_classes:
        if describe_row_fault("chip", name) or not name.strip():
            raise RequestError(
                f"{name!r} cannot name a class", "--new-class", "choose another name"
            )
    unknown = [
        name for name in counts if name not in {*store.classes, *options.new_classes}
    ]
    if not unknown:
        return
    folded = {name.casefold(): name for name in store.classes}
    hints: list[str] = []
    for name in unknown:
        similar = [
            folded[match]
            for match in get_close_matches(name.casefold(), folded, n=2, cutoff=0.7)
        ]
        hints += [f"{name} may be {' or '.join(similar)}"] if similar else []
    hints.append(
        "correct the table, or add "
        + " ".join(f"--new-class {shlex.quote(name)}" for name in unknown)
    )
    texts = [
        f"{name} ({counts[name]:,} row{'s' * (counts[name] != 1)})" for name in unknown
    ]
    raise RequestError(
        (
            f"the chip store has no class {', '.join(texts)}; it has"
            f" {', '.join(store.classes)}"
        ),
        table,
        "; ".join(hints),
    )


def _read_chips(
    table: CorrectedTable,
    labeled: Sequence[tuple[CorrectedRow, str]],
    store: ChipStore,
    options: AdditionOptions,
    date: str,
    progress: Progress | None,
) -> tuple[list[LabeledChip], list[Rejection]]:
    """Return the chips of all rows with a label, and the rows whose chip does not fit or cannot be read."""
    chips = []
    rejected = []
    bands = ",".join(store.bands)
    if options.sources is None:
        sources = None
    else:
        sources = Sources(store.root, table.path, options.sources)
    with (
        closing(
            ChipCutter(table, StoreFit(store), options.declaration, sources)
        ) as cutter,
        gdal_environment(),
    ):
        for done, (row, label) in enumerate(labeled, 1):
            try:
                if row.fault:
                    raise DataError(row.fault)
                chip = cutter.read(row)
            except DataError as error:
                rejected.append((str(table.path.resolve()), row.line, error.message))
            else:
                columns = {
                    "source": table.path.name,
                    "unit": chip.unit,
                    "bands": bands,
                    "spacing_m": chip.spacing_m,
                    "incidence_deg": row.incidence_deg,
                    "sha256": hashlib.sha256(chip.data).hexdigest(),
                    "added_from": table.path.name,
                    "added_bundle": row.bundle or table.bundle_sha256 or None,
                    "added_predicted": row.predicted or None,
                    "added_on": date,
                }
                name = Path(row.chip or row.path).name
                suffix = Path(name).suffix
                labeled_chip = LabeledChip(
                    name=(
                        name.removesuffix(suffix)
                        if suffix.lower() == chip.suffix
                        else name
                    )
                    or f"row_{row.line}",
                    label=label,
                    line=row.line,
                    data=chip.data,
                    suffix=chip.suffix,
                    shape=chip.pixels.shape,
                    digest=pixel_digest(chip.pixels),
                    scene=chip.scene,
                    split=row.split if row.split in ("val", "test") else "train",
                    columns={
                        key: value
                        for key, value in columns.items()
                        if value is not None
                    },
                )
                chips.append(labeled_chip)
            if progress is not None:
                progress(done, len(labeled), "reading corrected chips")
    return chips, rejected


class StoreFit:
    """What a chip of a store must be: its bands, one of its units, its pixel spacing."""

    def __init__(self, store: ChipStore) -> None:
        spacings = pd.to_numeric(store.table["spacing_m"]).to_numpy(float).tolist()
        self.spec = ChipSpec(
            units=store.units,
            bands=store.bands,
            spacing_m=common_spacing(spacings),
            owner="the store",
        )

    def select_bands(self, pixels: Pixels, names: tuple[str, ...] | None) -> Pixels:
        """Select the bands of the store from a chip (H, W, B).

        Without names, it must have as many bands as the store.

        Raises:
            DataError: bands are missing.
        """
        if names in (None, ("R", "G", "B")):
            pixels, is_gray = collapse_gray_rgb(pixels, self.spec)
            if is_gray:
                return pixels
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
        listed = " or ".join(accepted)
        declared = [unit for unit in units if unit and (is_float or unit in accepted)]
        if is_float and not declared:
            raise DataError(
                f"{pixels.dtype} pixels without a unit, but the store takes {listed};"
                " give --unit"
            )
        unit = resolve_unit(pixels, declared[0] if declared else None)
        if unit not in accepted:
            raise DataError(f"{unit} pixels, but the store takes {listed}")
        return unit

    def check_spacing(self, spacing: tuple[float, float] | None) -> float | None:
        """Return the pixel spacing for the manifest: that of the store, or of the chip (along columns and rows).

        Raises:
            DataError: the chip has another spacing than the store.
        """
        if spacing is None:
            return None
        self.spec.check_spacing(spacing)
        return self.spec.spacing_m or round(float(np.mean(spacing)), 4)


class CorrectedChip(NamedTuple):
    """The pixels of a corrected row (H, W, B), with the bands of the store, and the content of their file."""

    pixels: Pixels
    unit: str
    spacing_m: float | None
    data: bytes
    suffix: str
    scene: str


class Sources:
    """The files and addresses that a table may name: a stranger's table would bring private files into the store.

    Args:
        store: the chip store.
        table: the table.
        named: what the user names.
    """

    def __init__(self, store: Path, table: Path, named: Sequence[str]) -> None:
        uris = [SceneUri.parse(text) for text in named]
        self.table = table
        self.addresses = [uri.text.rstrip("/") for uri in uris if uri.is_remote]
        folders = [
            store,
            table.parent,
            *(uri.path for uri in uris if uri.path is not None),
        ]
        self.folders = [folder.resolve() for folder in folders]

    def contains(self, path: Path) -> bool:
        """Return whether a file, with links resolved, lies in one of the folders."""
        return any(path.resolve().is_relative_to(folder) for folder in self.folders)

    def check(self, uri: SceneUri) -> None:
        """Raise an error if the user names neither an address nor its server.

        Raises:
            RequestError: an address is not named.
        """
        if uri.is_remote and not any(
            f"{uri.text}/".startswith(f"{address}/") for address in self.addresses
        ):
            raise RequestError(
                f"the table names {uri}, but no argument of the command does",
                self.table,
                f"if you trust the table, add --source {uri}",
            )


class ChipCutter:
    """Gets the pixels of corrected rows.

    Args:
        table: the corrected table.
        fit: the requirements of the store.
        declaration: what the user declares of the chip files.
        sources: the files and addresses that the table may name; None for all.
    """

    def __init__(
        self,
        table: CorrectedTable,
        fit: StoreFit,
        declaration: Declaration,
        sources: Sources | None = None,
    ) -> None:
        self.table = table
        self.fit = fit
        self.declaration = declaration
        self.sources = sources
        self._records = {
            str(record["scene"]): record for record in table.metadata.get("cuts", ())
        }
        self._scenes: dict[str, SceneChips | DataError] = {}
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
        is_scene = (
            row.chip and row.scene and Path(row.path).name != f"{row.chip}.tif"
        )  # the path is that of the scene
        if not row.path or is_scene:
            return self._cut(row)
        folder = self.table.path.parent
        path = Path(row.path)
        candidates = [
            folder / path,
            path,
            folder / path.parent.name / path.name,
        ]  # the table may have been moved
        existing = [path for path in candidates if path.is_file()]
        file = next(
            (
                path
                for path in existing
                if self.sources is None or self.sources.contains(path)
            ),
            None,
        )
        if file is None:
            if row.scene in self._records:
                return self._cut(row)
            if not existing:
                raise DataError(f"the file does not exist: {candidates[0].absolute()}")
            raise RequestError(
                (
                    f"the table names {existing[0]}, which is neither in the store nor in"
                    " the folder of the table"
                ),
                f"{self.table.path}:{row.line}",
                f"if you trust the table, add --source {existing[0].resolve().parent}",
            )
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

    def _read_file(self, row: CorrectedRow, path: Path) -> CorrectedChip:
        undeclared: _Header = (None, None, None, "")
        bands, file_unit, spacing, scene = (
            rasters.read_tiff_tags(path, partial(_read_header, path)) or undeclared
        )
        resolved = path.resolve()
        stored = UNDECLARED
        store = next(
            (folder for folder in resolved.parents if (folder / _MANIFEST).is_file()),
            None,
        )
        if store is not None:  # the manifest of a chip store says what its chips are
            stored = self._read_declarations(store).get(str(resolved), UNDECLARED)
        reader.check_declared_bands(self.declaration.bands, bands or stored.bands, path)
        pixels = reader.read_chip(path)
        selected = self.fit.select_bands(
            pixels, self.declaration.bands or stored.bands or bands
        )
        declared = self.declaration.unit
        if (
            declared
            and file_unit
            and declared != file_unit
            and selected.dtype.kind == "f"
        ):
            raise DataError(
                f"the file declares {file_unit}, but --unit is {declared}; leave out"
                " --unit"
            )
        cut = self._records.get(row.scene, {})
        predicted = self.table.metadata.get("request", {}).get("declaration") or {}
        unit = self.fit.check_unit(
            selected,
            declared,
            stored.unit,
            file_unit,
            cut.get("unit"),
            predicted.get("unit"),
        )
        spacing_m = self.fit.check_spacing(spacing or _square(stored.spacing_m))
        is_whole = selected is pixels
        data, suffix = (
            (path.read_bytes(), path.suffix.lower())
            if is_whole
            else encode_chip(selected)
        )
        return CorrectedChip(
            selected, unit, spacing_m, data, suffix, row.scene or scene
        )

    def _cut(self, row: CorrectedRow) -> CorrectedChip:
        if row.scene not in self._records or not np.isfinite([row.row, row.col]).all():
            keeps_metadata = self.table.path.suffix.lower() != ".csv"
            raise DataError(
                _FOREIGN_TABLE
                if keeps_metadata and not self.table.metadata
                else _NO_RECORD
            )
        if row.scene not in self._scenes:
            if self.sources is not None:
                self.sources.check(
                    SceneUri.parse(str(self._records[row.scene]["path"]))
                )
            try:
                self._scenes[row.scene] = self._open_scene(row.scene)
            except RsftError as error:
                self._scenes[row.scene] = DataError(f"{row.scene}: {error.message}")
        chips = self._scenes[row.scene]
        if isinstance(chips, DataError):
            raise DataError(chips.message)
        number = next(
            (
                i
                for i, location in enumerate(chips.locations)
                if location.name == str(row.line)
            ),
            None,
        )
        if number is None:
            raise DataError(f"the center lies outside of {row.scene}")
        chip = chips.read(number)
        unit = self.fit.check_unit(chip.pixels, chip.unit)
        spacing_m = self.fit.check_spacing(chips.spacing)
        data, suffix = encode_chip(chip.pixels)
        return CorrectedChip(chip.pixels, unit, spacing_m, data, suffix, row.scene)

    def _open_scene(self, name: str) -> SceneChips:
        record = self._records[name]
        request = self.table.metadata.get("request", {})
        uri = SceneUri.parse(record["path"])
        if not uri.is_remote and (uri.path is None or not uri.path.exists()):
            raise DataError(f"the scene does not exist: {uri}")
        if record["fingerprint"] != scene_fingerprint(uri):
            raise DataError(
                "the scene has changed since the prediction; predict it again"
            )
        spec = self.fit.spec.model_copy(
            update={"crop": record["side"], "spacing_m": None}
        )
        unit = record["unit"] if record["unit"] in spec.units else None
        options = ProductOptions(**request.get("product_options", {}))
        scene = select_unit(open_scene(uri, options), spec, unit)
        names = (request.get("declaration") or {}).get("bands")
        spacing = (request.get("chip_options") or {}).get("spacing")
        job = PredictionRequest(
            query=Query(grid=1) if record["tiles"] else Query(),
            declaration=Declaration(unit, tuple(names) if names else None),
            chip_options=ChipOptions(spacing=spacing),
        )
        down, along = record["scale"]
        window = ChipWindow(
            record["side"],
            record["margin"],
            (float(down), float(along)),
            (scene.height, scene.width),
        )
        locations = []
        for row in self.table.rows:
            location = Location(row.row, row.col, None, str(row.line))
            if row.scene == name and location.is_inside(scene):
                locations.append(location._replace(box=_find_box(row, scene)))
        return SceneChips(scene, locations, spec, window, job)


_Header = tuple[tuple[str, ...] | None, str | None, tuple[float, float] | None, str]
"""Bands, unit, spacing and name of the scene that a chip file declares."""


def _read_header(path: Path, file: Any) -> _Header:
    georeference = read_georeference(file)
    if georeference:
        spacing = georeference.spacing_at(file.height / 2, file.width / 2)
    else:
        spacing = None
    unit = rasters.read_unit([file], path)
    return rasters.read_band_names(file), unit, spacing, file.tags().get(SCENE_TAG, "")


def _find_box(row: CorrectedRow, scene: RasterScene) -> tuple[float, ...] | None:
    """Return the corners of the rectangle around the object in pixels; None for a point."""
    if row.shape is None or row.shape.geom_type != "Polygon":
        return None
    xy = shapely.get_coordinates(row.shape)[:4]
    if scene.georeference is None:
        corners = np.column_stack([-xy[:, 1], xy[:, 0]])
    else:
        corners = scene.georeference.lonlat_to_pixels(xy[:, 0], xy[:, 1])
    if corners.shape == (4, 2):
        return tuple(corners.ravel().tolist())
    return None


def _square(spacing_m: Any) -> tuple[float, float] | None:
    if spacing_m is None:
        return None
    return (float(spacing_m), float(spacing_m))
