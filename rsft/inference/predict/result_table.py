"""The predictions table: its columns, its notes, and the metadata that describe how it was made."""

import csv
import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from rsft.data.annotations.columns import AT, concat_attributes, unique_names
from rsft.data.imagery.scene_uri import SceneUri
from rsft.errors import DataError, WeightsError
from rsft.inference.inputs.chip_files import path_to_text
from rsft.inference.inputs.scene_chips import SceneChips, product_record
from rsft.inference.options import PredictionRequest, SceneQuery
from rsft.inference.predict.resume_journal import ResumeJournal
from rsft.inference.predict.scene_plan import PredictionPlan
from rsft.models.bundle.bundle import Bundle
from rsft.models.outputs import ClassifierOutputs
from rsft.models.uncertainty.calibrator import Calibrator
from rsft.models.uncertainty.conformal import log_softmax
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

SET_SEPARATOR = " | "
"""Separator of the classes in a class set. The most probable class comes first."""

_DECIMALS = 6
_BLOCKS, _BLOCK_BYTES = 64, 16384  # parts of a file that are hashed


def table_columns(classes: Sequence[str]) -> dict[str, Any]:
    """Return the type of every column that a predictions table may have, in order, without attributes of positions."""
    return _FIRST_COLUMNS | dict.fromkeys(probability_columns(classes), _NUMBER) | _LAST_COLUMNS


def attribute_columns(table: pd.DataFrame, classes: Sequence[str]) -> list[str]:
    """List the columns of a predictions table that are attributes of positions."""
    return [name for name in table.columns if name not in {*table_columns(classes), *_NAMES_OF_FORMATS}]


def predictions_table(
    outputs: ClassifierOutputs, classes: Sequence[str], calibrator: Calibrator | None
) -> pd.DataFrame:
    """Convert the outputs of a network to table columns.

    Args:
        outputs: logits (N, C) and features (N, D).
        classes: names of the C classes.
        calibrator: calibrates probabilities; None leaves them uncalibrated.

    Returns:
        N rows with class, probability, class_2 and probability_2 (with at least two classes), class_set, ood and
        ood_distance (with a calibrator), and p_<class> of every class.

    Raises:
        WeightsError: the logits are not finite.
    """
    if not np.isfinite(outputs.logits).all():
        raise WeightsError("the model returns logits that are not finite", "", "train it with a lower learning rate")
    estimate = None if calibrator is None else calibrator.apply(*outputs)
    probabilities = np.exp(log_softmax(outputs.logits)) if estimate is None else estimate.probabilities
    order = np.argsort(-probabilities, axis=1, kind="stable")
    rows = np.arange(len(probabilities))
    names = np.array(classes, object)
    first = order[:, 0]
    table = pd.DataFrame({"class": names[first], "probability": probabilities[rows, first].round(_DECIMALS)})
    if len(classes) > 1:
        second = order[:, 1]
        table["class_2"] = names[second]
        table["probability_2"] = probabilities[rows, second].round(_DECIMALS)
    if estimate is not None:
        table["class_set"] = format_sets(probabilities, estimate.sets, classes)
        table["ood"] = ~(estimate.ood <= 1)  # a distance that is not a number does not make a chip like the others
        table["ood_distance"] = estimate.ood.round(4)
    columns = pd.DataFrame(probabilities.round(_DECIMALS), columns=probability_columns(classes))
    return pd.concat([table, columns], axis=1)


def format_sets(probabilities: NDArray[np.floating], sets: NDArray[np.bool_], classes: Sequence[str]) -> list[str]:
    """Return the classes of every set as a text, the most probable class first.

    Args:
        probabilities: (N, C).
        sets: (N, C), the classes that a chip may have.
        classes: names of the C classes.
    """
    names, order = np.array(classes, object), np.argsort(-probabilities, axis=1, kind="stable")
    return [SET_SEPARATOR.join(names[ranking[members[ranking]]]) for ranking, members in zip(order, sets, strict=True)]


def probability_columns(classes: Sequence[str]) -> list[str]:
    """Return the name of the probability column of each class."""
    return [f"p_{name}" for name in classes]


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
    types = table_columns(classes)
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


def collect_results(
    journal: ResumeJournal, plan: PredictionPlan, bundle: Bundle
) -> tuple[pd.DataFrame, list[Rejection], list[str]]:
    """Combine the results of all batches.

    Returns:
        The predictions table with one row per chip, everything that was rejected, and notes for the reader.
    """
    tables, rejected, counts = [], list(plan.rejected), Counter[str]()
    for batch in journal.results():
        tables += [batch.rows] if len(batch.rows) else []
        rejected += batch.rejected
        counts.update(batch.counts)
    attributes = [
        item.attributes.set_axis([path_to_text(location.name) for location in item.locations])
        for item in plan.positions
        if item.attributes is not None
    ]
    table = make_result_table(tables, bundle.classes, concat_attributes(attributes) if attributes else None)
    notes = [*plan.notes]
    if missing := int(table["geometry"].isna().sum()):
        notes.append(f"chips without a usable georeference have no geometry: {missing:,} of {len(table):,}")
    if counts["empty"]:
        notes.append(f"tiles without data were left out: {counts['empty']:,}")
    if counts["gray"]:
        notes.append(f"gray chips stored as RGB (only one band was used): {counts['gray']:,}")
    if clipped := counts["clipped"]:
        share = f"{clipped:,} of {counts['values']:,} values in chips ({clipped / counts['values']:.1%})"
        notes.append(f"below the thermal noise, raised to the smallest value that the products can hold: {share}")
    if bundle.calibrator is None:
        notes.append("the bundle is not calibrated: probabilities are those of the network, without class_set and ood")
    else:
        notes += [bundle.calibrator.promise(), *bundle.calibrator.notes(bundle.classes)]
    return table, rejected, notes


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
            scenes = plan.scenes[0].path.name if len(plan.scenes) == 1 else f"the {len(plan.scenes):,} scenes"
            hint = "; ".join(plan.positions[0].notes)
            raise DataError(f"none of the {outside:,} positions lies in {scenes}", query.at, hint)
        reason = "no position of {} lies in a scene" if outside else "{} has no positions"
        return f"the table has no rows: {reason.format(query.at.name)}"
    return f"the table has no rows: {'no object was detected' if query.detect else 'all tiles are without data'}"


def write_rejected_list(output_path: Path, rejected: list[Rejection]) -> Path:
    """Write <output stem>.rejected.csv and return its path. If nothing was rejected, delete that of an earlier job."""
    rejected_list = output_path.with_suffix(".rejected.csv")
    if not rejected:
        rejected_list.unlink(missing_ok=True)
        return rejected_list
    with atomic_file(rejected_list) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "line", "reason"])
        writer.writerows([escape_cell(value) for value in row] for row in rejected)
    return rejected_list


def table_metadata(
    bundle: Bundle, plan: PredictionPlan, request: PredictionRequest, notes: list[str], engine: dict[str, Any]
) -> dict[str, Any]:
    """Describe how a predictions table was made, as JSON values that are written with it.

    Args:
        bundle: the bundle that classified the chips.
        plan: the scenes of the job. Of each one, `cuts` says how chips were cut, so that they can be cut again.
        request: the options of the job.
        notes: remarks for the reader.
        engine: description of the engine.
    """
    sources = [source for source in plan.sources if isinstance(source, SceneChips)]
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
        "cuts": [
            {
                "scene": path_to_text(source.scene.path.name),
                "path": path_to_text(source.scene.path.absolute()),
                "fingerprint": scene_fingerprint(source.scene.path),
                "unit": source.unit,
                "side": source.window.side,
                "margin": source.window.margin,
                "scale": list(source.window.scale),
                "tiles": source.is_tiled,
            }
            for source in sources
        ],
        "engine": engine,
        "request": json.loads(json.dumps(asdict(request), default=path_to_text)),
        "notes": notes,
    }


def scene_fingerprint(uri: SceneUri) -> str | None:
    """Return a hash that changes if the files of a local scene change, but not if they are copied or moved.

    It contains the names of the files in a folder, their sizes, and parts of their content.

    Returns:
        Hexadecimal digits; None for scenes on servers.
    """
    path = uri.path
    if path is None or not path.exists():
        return None
    digest = hashlib.sha256()
    for name in sorted(x for x in path.rglob("*") if x.is_file()) if path.is_dir() else [path]:
        if path.is_dir():
            digest.update(path_to_text(name.relative_to(path)).encode())
        size = name.stat().st_size
        digest.update(str(size).encode())
        with name.open("rb") as file:
            for number in range(_BLOCKS if size > _BLOCK_BYTES else 1):
                file.seek(max(0, size - _BLOCK_BYTES) * number // (_BLOCKS - 1))
                digest.update(file.read(_BLOCK_BYTES))
    return digest.hexdigest()[:32]
