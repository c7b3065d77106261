"""The job: new chips or scenes in, a table of classes and probabilities out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from rsft import __version__
from rsft.data.imagery.image_cache import file_state
from rsft.errors import RequestError
from rsft.inference.engines.selection import choose_engine
from rsft.inference.inputs.chip_files import LooseChips
from rsft.inference.inputs.chip_source import text
from rsft.inference.inputs.discovery import NOTHING, Declared, find_chips, find_scenes
from rsft.inference.predict.pipeline import Model, batches, classify
from rsft.inference.predict.request import (
    AS_USUAL,
    Plan,
    Request,
    collect,
    columns,
    metadata_of,
    nothing,
    write_rejected,
)
from rsft.inference.predict.resume_journal import Journal
from rsft.inference.predict.scene_plan import look
from rsft.inference.review.page import write_review
from rsft.inference.scenes.raster import gdal_limits
from rsft.inference.writers.tables import Layer, check_output, write_predictions
from rsft.models.bundle.bundle import Bundle
from rsft.types import Progress


@dataclass(frozen=True)
class Predictions:
    """What a job made.

    Attributes:
        table: a row a chip, see docs/analyst.md; its column geometry holds shapes or None.
        rejected: what was refused, with the reason.
        counts: chips of each class.
        out: the file with the table.
        notes: what was done, left out or taken for granted, in sentences; they are stored with the table as well.
    """

    table: pd.DataFrame
    rejected: list[tuple[Path, str]]
    counts: dict[str, int]
    out: Path
    notes: list[str]


def predict(
    bundle_dir: Path, inputs: Sequence[Path], out: Path, request: Request = AS_USUAL, progress: Progress | None = None
) -> Predictions:
    """Classify, and write the table to `out`, the refused to `<out stem>.rejected.csv` beside it.

    Results are noted in `.<out name>.journal` as they come. A job that was stopped goes on there, if it is asked again.

    Raises:
        RequestError: no bundle, no chips, options that do not fit, or an output that cannot be written.
        WeightsError: a bundle that cannot be used.
        DataError: a scene that breaks the contract, or not one chip could be classified.
    """
    bundle = Bundle.load(bundle_dir)
    check_output(out, columns(bundle.classes), overwrite=request.overwrite)
    _check_page(request)
    paths, declared, skipped = inputs_of(inputs, request)
    journal = Journal(journal_of(out), job_key(bundle, paths, declared, request))
    finished = False
    try:
        with gdal_limits():
            plan = make_plan(bundle, paths, declared, request, journal, progress)
            try:
                result = _run(bundle, plan, request, journal, out, skipped, progress)
            finally:
                for source in plan.sources:
                    source.close()
        finished = True
    finally:
        journal.close(finished)
    return result


def inputs_of(inputs: Sequence[Path], request: Request) -> tuple[list[Path], dict[Path, Declared], int]:
    """Scenes as they are given, or chips with what is declared of each; and how many files of folders were skipped."""
    if request.look.is_for_scenes:
        return find_scenes(inputs), {}, 0
    if request.chips is not None:
        raise RequestError(
            "chips are cut from scenes alone", "--chips", "give --at, --grid or --detect, or leave it out"
        )
    found = find_chips(inputs)
    return (
        found.chips,
        {path: request.declared.or_else(found.declared.get(path, NOTHING)) for path in found.chips},
        found.skipped,
    )


def journal_of(out: Path) -> Path:
    """Where the job that makes `out` notes what it has done."""
    return out.parent / f".{out.name}.journal"


def job_key(bundle: Bundle, paths: list[Path], declared: Mapping[Path, Declared], request: Request) -> str:
    """Of a job: differs where what another has done is of no use; the output's metadata have it as `job`."""
    asked = asdict(request) | {"device": "", "readers": 0, "overwrite": False, "html": request.html is not None}
    files = [*paths, request.look.at, request.look.detect.land if request.look.detect else None]
    states = [(text(path), file_state(path)) for path in files if path is not None]
    told = [__version__, bundle.sha256, states, [declared[path] for path in paths if path in declared], asked]
    return hashlib.sha256(json.dumps(told, default=text).encode()).hexdigest()


def make_plan(
    bundle: Bundle,
    paths: list[Path],
    declared: dict[Path, Declared],
    request: Request,
    journal: Journal,
    progress: Progress | None,
) -> Plan:
    """Where chips come from."""
    contract, wishes = bundle.contract, request.wishes
    if not request.look.is_for_scenes:
        return Plan([LooseChips(declared, contract, wishes)], [], [], [])
    found = look(
        paths, request.look, wishes, request.declared, contract, journal=journal, keep=request.chips, progress=progress
    )
    return Plan(found.sources, found.scenes, found.rejected, found.notes)


def _run(
    bundle: Bundle,
    plan: Plan,
    request: Request,
    journal: Journal,
    out: Path,
    skipped: int,
    progress: Progress | None,
) -> Predictions:
    todo = batches(plan.sources, request.batch_size)
    told, facts = "", {}
    if todo:
        before = journal.noted("engine")
        chosen = choose_engine(bundle, request.engine, request.precision, request.device, todo, before)
        told, facts = chosen.told, chosen.facts
        journal.note("engine", facts["kind"])
        model = Model(chosen.run, chosen.contract, bundle.classes, bundle.confidence, chosen.callers)
        classify(todo, model, journal, readers=request.readers, thumbs=request.html is not None, progress=progress)
    return write_result(bundle, plan, request, journal, out, skipped, told, facts)


def write_result(
    bundle: Bundle,
    plan: Plan,
    request: Request,
    journal: Journal,
    out: Path,
    skipped: int,
    told: str,
    facts: dict[str, Any],
) -> Predictions:
    """Write what a journal holds.

    Args:
        skipped: files of folders that were no images.
        told, facts: of the engine, for the reader and for the metadata.

    Raises:
        DataError: not one chip could be classified.
    """
    table, refused, notes = collect(journal, plan, bundle)
    listing = write_rejected(out, refused)
    if skipped:
        notes.append(f"files of folders skipped for their suffix: {skipped:,}")
    if refused:
        notes.append(f"refused: {len(refused):,}, listed in {listing}")
    notes += [told] if told else []
    if table.empty and (refused or not request.empty):
        raise nothing(plan, refused, listing)
    thumbs = table.pop("thumb").tolist() if "thumb" in table else []
    if plan.crs is None and out.suffix.lower() == ".geojson":
        notes.append("GeoJSON knows degrees alone: it has no geometry, .gpkg has")
    made = {"job": journal.key, "chips": len(table), "refused": len(refused)}
    layer = Layer(table, plan.crs, bundle.classes, metadata_of(bundle, plan, request, notes, facts) | made)
    write_predictions(layer, out, overwrite=request.overwrite)
    if request.html is not None:
        write_review(request.html, layer, thumbs, plan.scenes)
    counts = {name: int((table["class"] == name).sum()) for name in bundle.classes}
    pairs = [(Path(f"{file}:{line}" if line else file), reason) for file, line, reason in refused]
    return Predictions(table, pairs, counts, out, notes)


def _check_page(request: Request) -> None:
    page = request.html
    if page is None:
        return
    if page.suffix.lower() not in (".html", ".htm"):
        raise RequestError("the review page is HTML", page, "call it .html")
    if page.exists() and not request.overwrite:
        raise RequestError("there is a file already", page, "give --overwrite to replace it, or another name")
