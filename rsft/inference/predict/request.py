"""What is asked of a job, and what becomes of its journal: one table, notes, metadata, a list of what was refused."""

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
from rsft.errors import DataError
from rsft.inference.inputs.chip_source import Source, text
from rsft.inference.inputs.discovery import NOTHING, Declared
from rsft.inference.predict.postprocess import probability_columns
from rsft.inference.predict.resume_journal import Journal
from rsft.inference.predict.scene_plan import Look
from rsft.inference.scenes.chip_window import Wishes
from rsft.inference.scenes.georeference import LONLAT
from rsft.inference.scenes.raster import Scene
from rsft.models.bundle.bundle import Bundle
from rsft.utils.atomic_files import replacing

Refused = list[tuple[str, int, str]]  # file, line (0: the whole file), reason


@dataclass(frozen=True)
class Request:
    """What is asked for, beside bundle, inputs and output.

    Attributes:
        look: where in scenes to look; inputs are loose chips if it says nothing.
        declared: unit and bands of all pixels; what is None is taken from a store's manifest or a file's own words.
        wishes: the size of chips and their pixels.
        chips: a folder to keep cut chips in.
        html: a review page to write.
        overwrite: replace output and page.
        batch_size: chips in a pass.
        readers: threads that read ahead.
        device: auto, cpu or cuda.
        empty: whether scenes with nothing in them are an answer, of no rows, and no fault.
        engine: auto, torch, onnx, openvino, or an export of the bundle.
        precision: fp32, bf16 or int8; None leaves it to the engine.
    """

    look: Look = field(default_factory=Look)
    declared: Declared = NOTHING
    wishes: Wishes = field(default_factory=Wishes)
    chips: Path | None = None
    html: Path | None = None
    overwrite: bool = False
    batch_size: int = 32
    readers: int = 1
    device: str = "auto"
    empty: bool = False
    engine: str = "auto"
    precision: str | None = None


AS_USUAL = Request()
"""Loose chips, and nothing else said."""


_NO_ROWS = pd.DataFrame({name: pd.Series(dtype=object) for name in ("chip", "scene", "path", "class", "geometry")})


@dataclass(frozen=True)
class Plan:
    """The sources of a job, and what is known before any chip is read."""

    sources: Sequence[Source]
    scenes: list[Scene]
    rejected: Refused
    notes: list[str]

    @property
    def crs(self) -> str | None:
        """Of the geometries."""
        return None if self.scenes and all(scene.place is None for scene in self.scenes) else LONLAT


def collect(journal: Journal, plan: Plan, bundle: Bundle) -> tuple[pd.DataFrame, Refused, list[str]]:
    """The journal as one table, what was refused, and what the reader should know."""
    tables, refused, empty, grey = [], list(plan.rejected), 0, 0
    for batch in journal.batches():
        tables += [batch.rows] if len(batch.rows) else []
        refused += batch.refused
        empty += batch.empty
        grey += batch.grey
    table = _in_order(pd.concat(tables, ignore_index=True), bundle.classes) if tables else _NO_ROWS.copy()
    notes = [*plan.notes]
    without = int(table["geometry"].isna().sum()) if len(table) else 0
    if without:
        notes.append(f"chips without usable georeference, so without geometry: {without:,} of {len(table):,}")
    if empty:
        notes.append(f"tiles without data, left out: {empty:,}")
    if grey:
        notes.append(f"grey chips stored as RGB, of which one band was used: {grey:,}")
    if bundle.confidence is None:
        notes.append("the bundle has no calibration: probabilities are as the network gives them, without set and ood")
    else:
        notes += bundle.confidence.notes(bundle.classes)
    return table, refused, notes


def columns(classes: Sequence[str]) -> list[str]:
    """Every column that a table may have, in order."""
    return [
        *("chip", "scene", "path", "class", "probability", "class_2", "probability_2", "set", "ood", "ood_distance"),
        *probability_columns(classes),
        *("length_m", "length_from", "row", "col", "lon", "lat", "at", "score", "geometry"),
    ]


def _in_order(table: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """Columns that hold something, in the order in which they are read; whole numbers as such."""
    known = [name for name in columns(classes) if name in table and (name == "geometry" or table[name].notna().any())]
    table = table[[*known, *(["thumb"] if "thumb" in table else [])]]
    return table.astype({"at": "Int64"}) if "at" in known else table


def metadata_of(
    bundle: Bundle, plan: Plan, request: Request, notes: list[str], engine: dict[str, Any]
) -> dict[str, Any]:
    """How a table was made."""
    return {
        "rsft_version": __version__,
        "bundle_sha256": bundle.sha256,
        "recipe": bundle.recipe.name,
        "backbone": bundle.recipe.backbone.name,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "classes": list(bundle.classes),
        "bands": list(bundle.contract.bands),
        "scenes": [text(scene.path) for scene in plan.scenes],
        "engine": engine,
        "request": json.loads(json.dumps(asdict(request), default=text)),
        "notes": notes,
    }


def nothing(plan: Plan, refused: Refused, listing: Path) -> DataError:
    """What is said when no chip was classified."""
    total = sum(len(source) for source in plan.sources)
    if not refused:
        return DataError(f"nothing to classify in {total:,} places", fix="; ".join(plan.notes))
    file, line, reason = refused[0]
    where = f"{file}:{line}" if line else file
    return DataError(
        f"none of the {max(total, len(refused)):,} chips can be used; {where}: {reason}", listing, "see the list"
    )


def write_rejected(out: Path, rejected: Refused) -> Path:
    """Write the list beside `out`, or remove that of an earlier job; return its path."""
    listing = out.with_suffix(".rejected.csv")
    if not rejected:
        listing.unlink(missing_ok=True)  # of an earlier job
        return listing
    with replacing(listing) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "line", "reason"])
        writer.writerows(rejected)
    return listing
