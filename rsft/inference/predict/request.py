"""The options of a prediction job, and the table, notes and metadata of its result."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from rsft import __version__
from rsft.data.imagery.products.product import DEFAULT_OPTIONS, ProductOptions
from rsft.errors import DataError
from rsft.inference.inputs.chip_source import ChipSource, path_to_text
from rsft.inference.inputs.discovery import UNDECLARED, Declaration
from rsft.inference.predict.postprocess import probability_columns
from rsft.inference.predict.resume_journal import ResumeJournal
from rsft.inference.predict.scene_plan import SceneQuery
from rsft.inference.scenes.chip_window import ChipOptions
from rsft.inference.scenes.georeference import LONLAT
from rsft.inference.scenes.raster import RasterScene
from rsft.models.bundle.bundle import Bundle
from rsft.types import Rejection
from rsft.utils.atomic_files import atomic_file

_RECORD_KEYS = {
    "query": "look",
    "declaration": "declared",
    "chip_options": "wishes",
    "product_options": "product",
    "chips_dir": "chips",
    "html_path": "html",
    "allow_empty": "empty",
}
"""Keys in files for fields that have another name in Python."""


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
        overwrite: whether to replace an existing output and review page.
        batch_size: number of chips in a batch.
        readers: number of threads that read and prepare chips.
        device: "auto", "cpu" or "cuda".
        allow_empty: whether a job without any chip writes an empty table instead of raising an error.
        engine: "auto", the name of an engine, or the path of an export of the bundle.
        precision: "fp32", "bf16" or "int8"; None leaves the choice to the engine.
    """

    query: SceneQuery = field(default_factory=SceneQuery)
    declaration: Declaration = UNDECLARED
    chip_options: ChipOptions = field(default_factory=ChipOptions)
    product_options: ProductOptions = DEFAULT_OPTIONS
    chips_dir: Path | None = None
    html_path: Path | None = None
    overwrite: bool = False
    batch_size: int = 32
    readers: int = 1
    device: str = "auto"
    allow_empty: bool = False
    engine: str = "auto"
    precision: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the fields as JSON values, with their keys in the metadata of the output."""
        record = {_RECORD_KEYS.get(name, name): value for name, value in asdict(self).items()}
        return dict(json.loads(json.dumps(record, default=path_to_text)))


DEFAULT_REQUEST = PredictionRequest()
"""A request for chips with default options."""

_NO_ROWS = pd.DataFrame({name: pd.Series(dtype=object) for name in ("chip", "scene", "path", "class", "geometry")})


@dataclass(frozen=True)
class PredictionPlan:
    """The chips of a job before the first one is read.

    Attributes:
        sources: sources of the chips.
        scenes: scenes from which chips are cut; empty if the inputs are chips.
        rejected: positions that cannot be used.
        notes: remarks for the reader.
    """

    sources: Sequence[ChipSource]
    scenes: list[RasterScene]
    rejected: list[Rejection]
    notes: list[str]

    @property
    def crs(self) -> str | None:
        """Coordinate system of the geometries; None if no scene has a georeference."""
        return None if self.scenes and all(scene.georeference is None for scene in self.scenes) else LONLAT


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
    tables, rejected, empty, gray = [], list(plan.rejected), 0, 0
    for batch in journal.results():
        tables += [batch.rows] if len(batch.rows) else []
        rejected += batch.rejected
        empty += batch.empty
        gray += batch.gray
    table = _order_columns(pd.concat(tables, ignore_index=True), bundle.classes) if tables else _NO_ROWS.copy()
    notes = [*plan.notes]
    without_geometry = int(table["geometry"].isna().sum())
    if without_geometry:
        notes.append(f"chips without a usable georeference have no geometry: {without_geometry:,} of {len(table):,}")
    if empty:
        notes.append(f"tiles without data were left out: {empty:,}")
    if gray:
        notes.append(f"gray chips stored as RGB (only one band was used): {gray:,}")
    if bundle.calibrator is None:
        notes.append("the bundle is not calibrated: probabilities are those of the network, without set and ood")
    else:
        notes += bundle.calibrator.notes(bundle.classes)
    return table, rejected, notes


def table_columns(classes: Sequence[str]) -> list[str]:
    """List every column that a predictions table may have, in order."""
    return [
        *("chip", "scene", "path", "class", "probability", "class_2", "probability_2", "set", "ood", "ood_distance"),
        *probability_columns(classes),
        *("length_m", "length_from", "row", "col", "lon", "lat", "at", "score", "geometry"),
    ]


def _order_columns(table: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """Order the columns, remove columns without values, and store row numbers as integers."""
    columns = [name for name in table_columns(classes) if name in table]
    columns = [name for name in columns if name == "geometry" or table[name].notna().any()]
    table = table[[*columns, *(["thumb"] if "thumb" in table else [])]]
    return table.astype({"at": "Int64"}) if "at" in columns else table


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
        "bands": list(bundle.contract.used_bands),
        "scenes": [path_to_text(scene.path) for scene in plan.scenes],
        "engine": engine,
        "request": request.as_json(),
        "notes": notes,
    }


def no_chips_error(plan: PredictionPlan, rejected: list[Rejection], rejected_list: Path) -> DataError:
    """Return the error for a job that classified no chip.

    Args:
        plan: the chips, with notes that may explain the error.
        rejected: everything that was rejected; the message quotes the first reason.
        rejected_list: path of the list of rejected chips.

    Returns:
        The error, to be raised.
    """
    total = sum(len(source) for source in plan.sources)
    if not rejected:
        return DataError(f"nothing to classify: {total:,} locations", hint="; ".join(plan.notes))
    file, line, reason = rejected[0]
    location = f"{file}:{line}" if line else file
    message = f"none of the {max(total, len(rejected)):,} chips can be used; {location}: {reason}"
    return DataError(message, rejected_list, "the file lists the reason for each chip")


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
        writer.writerows(rejected)
    return rejected_list
