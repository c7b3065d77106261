"""The options of a prediction job, and the table, notes and metadata of its result.

The columns of the predictions table: their order, their types, and the attributes of positions.

Describe how chips were cut from a scene, so that the same chips can be cut again.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from rsft.data.annotations.columns import AT, concat_attributes, unique_names
from rsft.data.imagery.products.product import DEFAULT_OPTIONS, ProductOptions
from rsft.data.imagery.scene_uri import SceneUri
from rsft.errors import DataError
from rsft.inference.inputs.chip_files import ChipSource, path_to_text
from rsft.inference.inputs.discovery import UNDECLARED, Declaration
from rsft.inference.inputs.scene_chips import SceneChips, product_record
from rsft.inference.predict.pipeline import probability_columns
from rsft.inference.predict.resume_journal import ResumeJournal
from rsft.inference.predict.scene_plan import SceneQuery
from rsft.inference.scenes.chip_window import ChipOptions
from rsft.inference.scenes.georeference import LONLAT
from rsft.inference.scenes.locations import SceneLocations
from rsft.inference.scenes.raster import RasterScene
from rsft.inference.writers.geopackage import GeometryType
from rsft.models.bundle.bundle import Bundle
from rsft.types import Rejection
from rsft.utils.atomic_files import atomic_file
from rsft.utils.tables import escape_cell
from rsft.version import __version__

_TEXT, _NUMBER = pd.ArrowDtype(pa.string()), "float64"
_FIRST_COLUMNS: dict[str, Any] = {
    **dict.fromkeys(("chip", "scene", "path", "class"), _TEXT),
    "probability": _NUMBER,
    "class_2": _TEXT,
    "probability_2": _NUMBER,
    "class_set": _TEXT,
    "ood": "bool",
    "ood_distance": _NUMBER,
}
_LAST_COLUMNS: dict[str, Any] = {
    **dict.fromkeys(("length_m", "length_m_low", "length_m_high"), _NUMBER),
    "length_from": _TEXT,
    **dict.fromkeys(("row", "col", "lon", "lat"), _NUMBER),
    AT: "Int64",
    "score": _NUMBER,
    "incidence_deg": _NUMBER,
    "geometry": "object",
}
_NAMES_OF_FORMATS = ("fid", "ogc_fid", "geom", "wkt", "thumb")
"""Columns that an output format or the review page adds."""


def table_columns(classes: Sequence[str]) -> list[str]:
    """List every column that a predictions table may have, in order, apart from attributes of positions."""
    return list(_column_types(classes))


def attribute_columns(table: pd.DataFrame, classes: Sequence[str]) -> list[str]:
    """List the columns of a predictions table that are attributes of positions.

    Args:
        table: the table.
        classes: names of the classes.
    """
    return [name for name in table.columns if name not in {*table_columns(classes), *_NAMES_OF_FORMATS}]


def make_result_table(
    batches: Sequence[pd.DataFrame], classes: Sequence[str], attributes: pd.DataFrame | None
) -> pd.DataFrame:
    """Combine the rows of all batches, and add the attributes of positions before the geometry.

    Columns without values are left out, except attributes. A table without rows has all columns.

    Args:
        batches: rows of the batches.
        classes: names of the classes.
        attributes: identity (`at`) and attributes of the positions, indexed by the name of the chip; None for chips
            that do not come from positions.

    Returns:
        One row per chip. Attributes whose names are taken have the prefix `at_`.
    """
    types = _column_types(classes)
    if batches:
        table = pd.concat(batches, ignore_index=True)
        columns = [name for name in types if name in table and (name == "geometry" or table[name].notna().any())]
        table = table[[*columns, *(["thumb"] if "thumb" in table else [])]]
    else:
        table = pd.DataFrame({name: pd.Series(dtype=dtype) for name, dtype in types.items()})
    if attributes is None:
        return table.astype({AT: types[AT]}) if AT in table else table
    rows = attributes.take(attributes.index.get_indexer(pd.Index(table["chip"]))).set_axis(table.index)
    rows.columns = pd.Index([AT, *unique_names(rows.columns[1:], [*types, *_NAMES_OF_FORMATS])])
    table[AT] = rows.pop(AT)
    split = table.columns.get_loc("geometry")
    return pd.concat([table.iloc[:, :split], rows, table.iloc[:, split:]], axis=1)


def _column_types(classes: Sequence[str]) -> dict[str, Any]:
    return _FIRST_COLUMNS | dict.fromkeys(probability_columns(classes), _NUMBER) | _LAST_COLUMNS


_BLOCKS, _BLOCK_BYTES = 64, 16384  # parts of a file that are hashed


def cut_record(source: SceneChips) -> dict[str, Any]:
    """Describe how the chips of a scene are cut.

    Args:
        source: the chips.

    Returns:
        JSON values: name, absolute path and fingerprint of the scene; the unit in which it is read; side, margin and
        scale of the chips; whether they are tiles.
    """
    window = source.window
    return {
        "scene": path_to_text(source.scene.path.name),
        "path": path_to_text(source.scene.path.absolute()),
        "fingerprint": scene_fingerprint(source.scene.path),
        "unit": source.unit,
        "side": window.side,
        "margin": window.margin,
        "scale": list(window.scale),
        "tiles": source.is_tiled,
    }


def scene_fingerprint(uri: SceneUri) -> str | None:
    """Return a hash that changes if the files of a local scene change, but not if they are copied or moved.

    It contains the names of the files in a folder, their sizes, and parts of their content.

    Args:
        uri: the scene.

    Returns:
        Hexadecimal digits; None for scenes on servers.
    """
    path = uri.path
    if path is None or not path.exists():
        return None
    files = sorted(x for x in path.rglob("*") if x.is_file()) if path.is_dir() else [path]
    digest = hashlib.sha256()
    for file in files:
        if path.is_dir():
            digest.update(path_to_text(file.relative_to(path)).encode())
        _update(digest, file)
    return digest.hexdigest()[:32]


def _update(digest: Any, path: Path) -> None:
    size = path.stat().st_size
    digest.update(str(size).encode())
    with path.open("rb") as file:
        for number in range(_BLOCKS):
            file.seek(max(0, size - _BLOCK_BYTES) * number // (_BLOCKS - 1))
            digest.update(file.read(_BLOCK_BYTES))
            if size <= _BLOCK_BYTES:
                break


@dataclass(frozen=True)
class PredictionRequest:
    """Options of a prediction job, apart from bundle, inputs and output.

    Attributes:
        query: where to cut chips in scenes; by default the inputs are chips.
        declaration: unit, bands and pixel spacing of all inputs. Missing values come from the manifest of a chip store
            or from the files.
        chip_options: size of chips and of their pixels.
        product_options: how the values of scenes are read: modulus, calibration factor, noise.
        chips_dir: folder in which chips cut from scenes are saved.
        html_path: path of the review page.
        picture_path: path of the map of a scene, a PNG.
        truth_path: positions and classes of the objects in the scenes, with which detected objects are compared.
        overwrite: whether to replace an existing output and review page.
        discard_corrections: whether to replace even a table in which an analyst entered corrections.
        batch_size: number of chips in a batch.
        readers: number of threads that read and prepare chips.
        device: "auto", "cpu" or "cuda".
        engine: "auto", the name of an engine, or the path of an export of the bundle.
        precision: "fp32", "bf16" or "int8"; None leaves the choice to the engine.
    """

    query: SceneQuery = field(default_factory=SceneQuery)
    declaration: Declaration = UNDECLARED
    chip_options: ChipOptions = field(default_factory=ChipOptions)
    product_options: ProductOptions = DEFAULT_OPTIONS
    chips_dir: Path | None = None
    html_path: Path | None = None
    picture_path: Path | None = None
    truth_path: Path | None = None
    overwrite: bool = False
    discard_corrections: bool = False
    batch_size: int = 32
    readers: int = 1
    device: str = "auto"
    engine: str = "auto"
    precision: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return dict(json.loads(json.dumps(asdict(self), default=path_to_text)))


DEFAULT_REQUEST = PredictionRequest()
"""A request for chips with default options."""


@dataclass(frozen=True)
class PredictionPlan:
    """The chips of a job before the first one is read.

    Attributes:
        sources: sources of the chips.
        scenes: scenes from which chips are cut; empty if the inputs are chips.
        rejected: positions that cannot be used.
        notes: remarks for the reader.
        positions: the locations in each scene.
    """

    sources: Sequence[ChipSource]
    scenes: list[RasterScene]
    rejected: list[Rejection]
    notes: list[str]
    positions: Sequence[SceneLocations] = ()

    @property
    def crs(self) -> str | None:
        """Coordinate system of the geometries; None if no scene has a georeference."""
        return None if self.scenes and all(scene.georeference is None for scene in self.scenes) else LONLAT

    @property
    def attributes(self) -> pd.DataFrame | None:
        """Identity and attributes of all positions, indexed by the name of the chip; None without a file of them."""
        tables = [
            item.attributes.set_axis([path_to_text(location.name) for location in item.locations])
            for item in self.positions
            if item.attributes is not None
        ]
        return concat_attributes(tables) if tables else None

    @property
    def geometry_type(self) -> GeometryType:
        """Type of the geometries of a table without rows."""
        return "Polygon" if self.positions and all(item.are_boxes for item in self.positions) else "Point"


def collect_results(
    journal: ResumeJournal, plan: PredictionPlan, bundle: Bundle
) -> tuple[pd.DataFrame, list[Rejection], list[str]]:
    """Combine the results of all batches.

    Args:
        journal: a journal with all results.
        plan: rejected positions and notes.
        bundle: names of the classes, and calibration.

    Returns:
        The predictions table with one row per chip, everything that was rejected, and notes for the reader.
    """
    tables, rejected = [], list(plan.rejected)
    empty = gray = clipped = values = 0
    for batch in journal.results():
        tables += [batch.rows] if len(batch.rows) else []
        rejected += batch.rejected
        empty += batch.empty
        gray += batch.gray
        clipped += batch.clipped
        values += batch.values
    table = make_result_table(tables, bundle.classes, plan.attributes)
    notes = [*plan.notes]
    without_geometry = int(table["geometry"].isna().sum())
    if without_geometry:
        notes.append(f"chips without a usable georeference have no geometry: {without_geometry:,} of {len(table):,}")
    if empty:
        notes.append(f"tiles without data were left out: {empty:,}")
    if gray:
        notes.append(f"gray chips stored as RGB (only one band was used): {gray:,}")
    if clipped:
        share = f"{clipped:,} of {values:,} values in chips ({clipped / values:.1%})"
        notes.append(f"below the thermal noise, raised to the smallest value that the products can hold: {share}")
    if bundle.calibrator is None:
        notes.append("the bundle is not calibrated: probabilities are those of the network, without class_set and ood")
    else:
        notes += [bundle.calibrator.promise(), *bundle.calibrator.notes(bundle.classes)]
    return table, rejected, notes


def table_metadata(
    bundle: Bundle, plan: PredictionPlan, request: PredictionRequest, notes: list[str], engine: dict[str, Any]
) -> dict[str, Any]:
    """Describe how a predictions table was made.

    Args:
        bundle: the bundle that classified the chips.
        plan: the scenes of the job.
        request: the options of the job.
        notes: remarks for the reader.
        engine: description of the engine.

    Returns:
        The metadata that is written with the table; all values can be written as JSON.
    """
    return {
        "rsft_version": __version__,
        "bundle_sha256": bundle.sha256,
        "recipe": bundle.recipe.name,
        "backbone": bundle.recipe.backbone.name,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "classes": list(bundle.classes),
        "train_counts": dict(zip(bundle.classes, bundle.train_counts, strict=True)),
        "bands": list(bundle.contract.used_bands),
        "scenes": [path_to_text(scene.path) for scene in plan.scenes],
        "products": [product_record(scene) for scene in plan.scenes],
        "cuts": [cut_record(source) for source in plan.sources if isinstance(source, SceneChips)],
        "engine": engine,
        "request": request.as_json(),
        "notes": notes,
    }


def describe_empty_result(
    plan: PredictionPlan, query: SceneQuery, rejected: list[Rejection], rejected_list: Path, may_be_outside: bool
) -> str:
    """Return the note of a job without any row. This is a result, unless chips were rejected or positions lie outside.

    Args:
        plan: the chips.
        query: where chips were cut.
        rejected: everything that was rejected; the error quotes the first reason.
        rejected_list: path of the list of rejected chips.
        may_be_outside: whether all positions may lie outside of the scenes.

    Returns:
        The note.

    Raises:
        DataError: all chips, or all positions of a file, were rejected, or lie outside of the scenes.
    """
    total = sum(len(source) for source in plan.sources)
    if rejected and (total or not any(item.outside for item in plan.positions)):
        file, line, reason = rejected[0]
        location = f"{file}:{line}" if line else file
        message = f"none of the {max(total, len(rejected)):,} chips can be used; {location}: {reason}"
        raise DataError(message, rejected_list, "the file lists the reason for each chip")
    if query.at is not None:
        outside = max((item.outside for item in plan.positions), default=0)
        if outside and not may_be_outside:
            hint = "; ".join(plan.positions[0].notes)
            raise DataError(f"none of the {outside:,} positions lies in {_names(plan.scenes)}", query.at, hint)
        reason = "no position of {} lies in a scene" if outside else "{} has no positions"
        return f"the table has no rows: {reason.format(query.at.name)}"
    return f"the table has no rows: {'no object was detected' if query.detect else 'all tiles are without data'}"


def _names(scenes: Sequence[RasterScene]) -> str:
    return scenes[0].path.name if len(scenes) == 1 else f"the {len(scenes):,} scenes"


def write_rejected_list(output_path: Path, rejected: list[Rejection]) -> Path:
    """Write <output stem>.rejected.csv. If nothing was rejected, delete the list of an earlier job.

    Args:
        output_path: path of the predictions table.
        rejected: everything that was rejected.

    Returns:
        The path of the list.
    """
    rejected_list = output_path.with_suffix(".rejected.csv")
    if not rejected:
        rejected_list.unlink(missing_ok=True)
        return rejected_list
    with atomic_file(rejected_list) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "line", "reason"])
        writer.writerows([escape_cell(value) for value in row] for row in rejected)
    return rejected_list
