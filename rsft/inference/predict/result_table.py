"""The predictions table: its columns, notes and metadata, and checks of its scenes.

The chips of every scene are compared with the training and validation chips, and
detected objects with the truth.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import pandas as pd
import pyarrow as pa
import shapely
from numpy.typing import NDArray

from rsft.data.annotations.base import AT, concat_attributes, unique_names
from rsft.data.imagery.contract import Contract
from rsft.data.imagery.scene_uri import SceneUri
from rsft.errors import DataError, WeightsError
from rsft.inference.options import PredictionRequest
from rsft.inference.predict.chip_files import (
    PredictionPlan,
    describe_assumed_bands,
    path_to_text,
)
from rsft.inference.predict.resume_journal import ResumeJournal
from rsft.models.bundle.bundle import Bundle
from rsft.models.outputs import ClassifierOutputs
from rsft.models.uncertainty import statistics
from rsft.models.uncertainty.calibrator import (
    COVERAGE,
    OOD_FALSE_POSITIVE_RATE,
    Calibrator,
)
from rsft.scenes.options import Query
from rsft.types import Rejection
from rsft.utils.atomic_files import atomic_file
from rsft.utils.tables import escape_cell
from rsft.version import __version__

if TYPE_CHECKING:
    from rsft.inference.predict.scene_chips import SceneChips
    from rsft.scenes.raster import RasterScene

_TEXT = pd.ArrowDtype(pa.string())
_NUMBER = "float64"
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
FORMAT_COLUMNS = ("fid", "ogc_fid", "geom", "wkt", "thumb")
"""Columns that an output format or the review page adds."""

SET_SEPARATOR = " | "
"""Separator of the classes in a class set. The most probable class comes first."""

_DECIMALS = 6
_BLOCKS = 64
_BLOCK_BYTES = 16384  # parts of a file that are hashed

_BATCHES = (
    256  # merged batches; a table of a few rows needs as much memory as one of many
)
_MAX_SCENES = 10  # scenes that a sentence names
_MEASURES = {
    "distance": "farther from the training chips",
    "probability": "probability",
    "classes": "shares of the classes",
}
_TOLERANCE = (
    1 / 8
)  # largest distance of a detection from the outline of the object, as a share of the chip's side


def table_columns(classes: Sequence[str]) -> dict[str, Any]:
    """Return the type of every column that a predictions table may have, in order, without attributes of positions."""
    return (
        _FIRST_COLUMNS
        | dict.fromkeys(probability_columns(classes), _NUMBER)
        | _LAST_COLUMNS
    )


def predictions_table(
    outputs: ClassifierOutputs, classes: Sequence[str], calibrator: Calibrator | None
) -> pd.DataFrame:
    """Convert the outputs of a network to table columns.

    Args:
        outputs: logits (N, C) and features (N, D).
        classes: names of the C classes.
        calibrator: calibrates probabilities; None leaves them uncalibrated.

    Returns:
        N rows with class, probability, class_2 and probability_2 (with at least two
        classes), class_set, ood and ood_distance (with a calibrator), and p_<class> of
        every class.

    Raises:
        WeightsError: the logits are not finite.
    """
    if not np.isfinite(outputs.logits).all():
        raise WeightsError(
            "the model returns logits that are not finite",
            "",
            "train it with a lower learning rate",
        )
    if calibrator is None:
        estimate = None
    else:
        estimate = calibrator.apply(*outputs)
    if estimate is None:
        probabilities = np.exp(statistics.log_softmax(outputs.logits))
    else:
        probabilities = estimate.probabilities
    order = np.argsort(-probabilities, axis=1, kind="stable")
    table = pd.DataFrame(index=range(len(order)))
    for rank, suffix in enumerate(("", "_2")[: len(classes)]):
        table[f"class{suffix}"] = np.array(classes, object)[order[:, rank]]
        table[f"probability{suffix}"] = np.take_along_axis(probabilities, order, 1)[
            :, rank
        ].round(_DECIMALS)
    if estimate is not None:
        table["class_set"] = format_sets(probabilities, estimate.sets, classes)
        table["ood"] = ~(
            estimate.ood <= 1
        )  # a distance that is not a number does not make a chip like the others
        table["ood_distance"] = estimate.ood.round(4)
    columns = pd.DataFrame(
        probabilities.round(_DECIMALS), columns=probability_columns(classes)
    )
    return pd.concat([table, columns], axis=1)


def format_sets(
    probabilities: NDArray[np.floating], sets: NDArray[np.bool_], classes: Sequence[str]
) -> list[str]:
    """Return the classes of every set as a text, the most probable class first.

    Args:
        probabilities: (N, C).
        sets: (N, C), the classes that a chip may have.
        classes: names of the C classes.

    Returns:
        N texts.
    """
    names = np.array(classes, object)
    order = np.argsort(-probabilities, axis=1, kind="stable")
    return [
        SET_SEPARATOR.join(names[ranking[members[ranking]]])
        for ranking, members in zip(order, sets, strict=True)
    ]


def probability_columns(classes: Sequence[str]) -> list[str]:
    """Return the name of the probability column of each class."""
    return [f"p_{name}" for name in classes]


def collect_results(
    journal: ResumeJournal, plan: PredictionPlan, bundle: Bundle
) -> tuple[pd.DataFrame, list[Rejection], list[str]]:
    """Combine the results of all batches.

    Returns:
        The predictions table with one row per chip, everything that was rejected, and
        notes for the reader. Columns without values are left out, but a table without
        rows has all. Identity and attributes of positions are before the geometry;
        attributes whose names are taken have the prefix `at_`.
    """
    tables = []
    counts = Counter[str]()
    types = table_columns(bundle.classes)
    rejected = [x for item in plan.positions for x in item.rejected]
    for result in journal.results(_BATCHES):
        tables += [result.rows] if len(result.rows) else []
        rejected += result.rejected
        counts.update(result.counts)
    table = pd.DataFrame(
        {name: pd.Series(dtype=dtype) for name, dtype in types.items()}
    )
    if tables:
        table = pd.concat(tables, ignore_index=True)
        columns = [
            name
            for name in types
            if name in table and (name == "geometry" or table[name].notna().any())
        ]
        table = table[[*columns, *(["thumb"] if "thumb" in table else [])]]
    attributes = [
        item.attributes.set_axis(
            [path_to_text(location.name) for location in item.locations]
        )
        for item in plan.positions
        if item.attributes is not None
    ]
    if attributes:
        table = _add_attributes(
            table, attributes, [*types, *FORMAT_COLUMNS], bundle.classes
        )
    elif tables and AT in table:
        table = table.astype({AT: types[AT]})
    notes = [*plan.notes, *describe_unnamed_chips(counts["unnamed"], bundle.contract)]
    missing = int(table["geometry"].isna().sum())
    if missing:
        notes.append(
            f"chips without a usable georeference have no geometry: {missing:,} of"
            f" {len(table):,}"
        )
    if counts["empty"]:
        notes.append(f"tiles without data were left out: {counts['empty']:,}")
    if counts["gray"]:
        notes.append(
            f"gray chips stored as RGB (only one band was used): {counts['gray']:,}"
        )
    clipped = counts["clipped"]
    if clipped:
        share = (
            f"{clipped:,} of {counts['values']:,} values in chips"
            f" ({clipped / counts['values']:.1%})"
        )
        notes.append(
            "below the thermal noise, raised to the smallest value that the products"
            f" can hold: {share}"
        )
    if bundle.calibrator is None:
        notes.append(
            "the bundle is not calibrated: probabilities are those of the network,"
            " without class_set and ood"
        )
    else:
        notes += [bundle.calibrator.promise(), *bundle.calibrator.notes(bundle.classes)]
    return table, rejected, notes


def describe_unnamed_chips(count: int, contract: Contract) -> list[str]:
    """Return the note on chips that do not name their bands, if there are any."""
    if not count:
        return []
    return [describe_assumed_bands(f"the bands of {count:,} chips", contract.bands)]


def _add_attributes(
    table: pd.DataFrame,
    attributes: Sequence[pd.DataFrame],
    taken: Sequence[str],
    classes: Sequence[str],
) -> pd.DataFrame:
    """Add identity and attributes of positions, which are indexed by the name of the chip, before the geometry."""
    by_chip = concat_attributes(attributes)
    rows = by_chip.take(by_chip.index.get_indexer(pd.Index(table["chip"]))).set_axis(
        table.index
    )
    rows.columns = pd.Index([AT, *unique_names(rows.columns[1:], taken)])
    identity = rows.pop(AT)
    if identity.notna().any() or AT in table:
        table[AT] = identity
    rows = add_disagreements(rows, table["class"], classes)
    split = table.columns.get_loc("geometry")
    return pd.concat([table.iloc[:, :split], rows, table.iloc[:, split:]], axis=1)


def add_disagreements(
    rows: pd.DataFrame, predicted: pd.Series[Any], classes: Sequence[str]
) -> pd.DataFrame:
    """Add the column `ais_note` to attributes with a class of AIS: where the image shows another class.

    Args:
        rows: attributes, with the columns ais_status and ais_class, or without them.
        predicted: class of each row.
        classes: classes of the bundle; other classes of AIS are not compared.

    Returns:
        The attributes; with the column, if they have a class of AIS.
    """
    if "ais_class" not in rows:
        return rows
    differs = (
        (rows["ais_status"] == "matched")
        & rows["ais_class"].isin(classes)
        & (rows["ais_class"] != predicted)
    )
    texts = (
        "AIS says "
        + rows["ais_class"].astype(str)
        + ", the image says "
        + predicted.astype(str)
    )
    return rows.assign(ais_note=texts.where(differs.fillna(False), None).astype(_TEXT))


def describe_empty_result(
    plan: PredictionPlan,
    query: Query,
    rejected: list[Rejection],
    rejected_list: Path,
    may_be_outside: bool,
) -> str:
    """Return the note of a job without any row.

    This is a result, unless chips were rejected or positions lie outside.

    Args:
        plan: the chips.
        query: where chips were cut.
        rejected: everything that was rejected; the error quotes the first reason.
        rejected_list: path of the list of rejected chips.
        may_be_outside: whether all positions may lie outside of the scenes.

    Raises:
        DataError: all chips, or all positions of a file, were rejected, or lie outside
            of the scenes.
    """
    total = sum(len(source) for source in plan.sources)
    if rejected and (total or not any(item.outside for item in plan.positions)):
        file, line, reason = rejected[0]
        location = f"{file}:{line}" if line else file
        raise DataError(
            (
                f"none of the {max(total, len(rejected)):,} chips can be used; {location}:"
                f" {reason}"
            ),
            rejected_list,
            "the file lists the reason for each chip",
        )
    if query.at is not None:
        outside = max((len(item.outside) for item in plan.positions), default=0)
        if outside and not may_be_outside:
            if len(plan.scenes) == 1:
                scenes = plan.scenes[0].path.name
            else:
                scenes = f"the {len(plan.scenes):,} scenes"
            raise DataError(
                f"none of the {outside:,} positions lies in {scenes}",
                query.at,
                "; ".join(plan.positions[0].notes),
            )
        if outside:
            reason = "no position of {} lies in a scene"
        else:
            reason = "{} has no positions"
        return f"the table has no rows: {reason.format(query.at.name)}"
    return (
        "the table has no rows:"
        f" {'no object was detected' if query.detect else 'all tiles are without data'}"
    )


def write_rejected_list(output_path: Path, rejected: list[Rejection]) -> Path:
    """Write <output stem>.rejected.csv and return its path.

    If nothing was rejected, delete that of an earlier job.
    """
    rejected_list = output_path.with_suffix(".rejected.csv")
    if not rejected:
        rejected_list.unlink(missing_ok=True)
        return rejected_list
    with (
        atomic_file(rejected_list) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(["file", "line", "reason"])
        writer.writerows([escape_cell(value) for value in row] for row in rejected)
    return rejected_list


def table_metadata(
    bundle: Bundle,
    plan: PredictionPlan,
    request: PredictionRequest,
    notes: list[str],
    engine: Mapping[str, Any],
) -> dict[str, Any]:
    """Describe how a predictions table was made, as JSON values that are written with it.

    Args:
        bundle: the bundle that classified the chips.
        plan: the scenes of the job. Of each one, `cuts` says how chips were cut, so
            that they can be cut again.
        request: the options of the job.
        notes: remarks for the reader.
        engine: description of the engine.

    Returns:
        The values by key.
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
        "products": [scene.record() for scene in plan.scenes],
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
            for source in scene_sources(plan)
        ],
        "engine": engine,
        "request": json.loads(json.dumps(asdict(request), default=path_to_text)),
        "notes": notes,
    }


def scene_sources(plan: PredictionPlan) -> Sequence[SceneChips]:
    """Return the sources of the chips, if they are cut from scenes."""
    if plan.scenes:
        return cast("Sequence[SceneChips]", plan.sources)
    return ()


def scene_fingerprint(uri: SceneUri) -> str | None:
    """Return a hash that changes if the files of a local scene change, but not if they are copied or moved.

    It contains the names of the files in a folder, their sizes, and parts of their
    content.

    Returns:
        Hexadecimal digits; None for scenes on servers.
    """
    path = uri.path
    if path is None or not path.exists():
        return None
    digest = hashlib.sha256()
    for name in (
        sorted(x for x in path.rglob("*") if x.is_file()) if path.is_dir() else [path]
    ):
        if path.is_dir():
            digest.update(path_to_text(name.relative_to(path)).encode())
        size = name.stat().st_size
        digest.update(str(size).encode())
        with name.open("rb") as file:
            for number in range(_BLOCKS if size > _BLOCK_BYTES else 1):
                file.seek(max(0, size - _BLOCK_BYTES) * number // (_BLOCKS - 1))
                digest.update(file.read(_BLOCK_BYTES))
    return digest.hexdigest()[:32]


@dataclass(frozen=True)
class SceneCheck:
    """Whether the chips of a scene are like those that the bundle was trained and calibrated on.

    Attributes:
        scene: path of the scene; "" if the inputs are chips, which are then compared
            together.
        chips: number of classified chips.
        ood: number of chips that are out of distribution, so unlike the training chips.
        test: the comparison with the validation chips.
        class_sets: widened for the chips of the scene, plain (from the validation chips
            alone), or withheld.
        validation_chips: number of validation chips from which the limit for unlike
            chips was estimated.
    """

    scene: str
    chips: int
    ood: int
    test: statistics.ShiftTest
    class_sets: Literal["widened", "plain", "withheld"]
    validation_chips: int

    @property
    def is_unusual(self) -> bool:
        """Whether more chips are unlike the training chips than chance explains."""
        chance = statistics.chance_of_ood_chips(
            self.ood, self.chips, self.validation_chips, OOD_FALSE_POSITIVE_RATE
        )
        return chance < statistics.SHIFT_LEVEL

    @property
    def is_doubtful(self) -> bool:
        """Whether the chips differ from the training or validation chips so that their classes are less reliable."""
        return self.is_unusual or bool(self.test.warnings)

    def as_json(self) -> dict[str, Any]:
        """Return the content as JSON values.

        Returns:
            scene, chips, ood, class_sets, shifted (names of the differences that are
            significant and large), nearer (whether the chips are nearer to the training
            chips than the validation chips), differences (size and p of each), and
            reason (why the chips were not compared; "" if they were).
        """
        differences = {
            name: {"size": x.size, "p": x.p}
            for name, x in self.test.differences.items()
        }
        values = {
            name: getattr(self, name)
            for name in ("scene", "chips", "ood", "class_sets")
        }
        test = {
            "shifted": list(self.test.shifted),
            "nearer": self.test.is_nearer,
            "reason": self.test.reason,
        }
        return values | test | {"differences": differences}


def check_scenes(
    table: pd.DataFrame, calibrator: Calibrator | None, classes: Sequence[str]
) -> tuple[pd.DataFrame, list[SceneCheck]]:
    """Compare the chips of every scene with the training and validation chips, and adjust their class sets.

    The sets of a scene are widened for its chips (`Calibrator.widened_sets`). If most
    chips of a scene are unlike the training chips, its sets are withheld: they are
    empty in the table.

    Args:
        table: predictions with `ood_distance` and the probability of every class; rows
            without `class` stay unchanged.
        calibrator: the calibrator of the bundle; None if it was not calibrated.
        classes: names of the classes.

    Returns:
        The table with adjusted sets, and one check per scene.
    """
    if calibrator is None or table.empty or "ood_distance" not in table:
        return table, []
    classified = table["class"].notna()
    if "scene" in table:
        scenes = table["scene"].fillna("")
    else:
        scenes = pd.Series("", table.index)
    class_sets = table["class_set"].to_numpy(object, copy=True)
    checks = []
    for scene, rows in scenes[classified].groupby(scenes[classified]).groups.items():
        positions = table.index.get_indexer(rows)
        probabilities = table.loc[rows, probability_columns(classes)].to_numpy(float)
        ood = table.loc[rows, "ood_distance"].to_numpy(float)
        test = calibrator.test_shift(probabilities, ood)
        unlike = int((~(ood <= 1)).sum())
        check = SceneCheck(
            str(scene), len(ood), unlike, test, "withheld", len(calibrator.labels)
        )
        if unlike > len(ood) / 2 and check.is_unusual:
            class_sets[positions] = None
        elif (widened := calibrator.widened_sets(probabilities, ood)) is not None:
            check = replace(check, class_sets="widened")
            class_sets[positions] = format_sets(probabilities, widened, classes)
        else:
            check = replace(check, class_sets="plain")
        checks.append(check)
    return table.assign(class_set=pd.Series(class_sets, table.index, object)), checks


def describe_checks(checks: Sequence[SceneCheck]) -> list[str]:
    """Describe how the chips differ from training and validation chips; the most important sentence is the last."""
    if not checks:
        return []
    sentences = []
    untested = [check for check in checks if check.test.reason]
    if untested:
        reasons = "; ".join(dict.fromkeys(check.test.reason for check in untested))
        chips = sum(check.chips for check in untested)
        sentences.append(
            f"not compared with the validation chips: {chips:,} chips ({reasons})"
        )
    shifted = [check for check in checks if check.test.warnings]
    if shifted:
        measures = (
            text
            for name, text in _MEASURES.items()
            if any(name in check.test.warnings for check in shifted)
        )
        if len(checks) > 1:
            where = f" in {_list_scenes(map(_name, shifted))}"
        else:
            where = ""
        widened = all(check.class_sets == "widened" for check in shifted)
        sentences.append(
            f"the chips{where} are not like the validation chips"
            f" ({', '.join(measures)}): probabilities are less "
            f"reliable, and class sets may miss the coverage of {COVERAGE:.0%}"
            f"{', although they are widened for these chips' if widened else ''}"
        )
    withheld = [check for check in checks if check.class_sets == "withheld"]
    if withheld:
        if len(checks) > 1:
            where = f" of {_list_scenes(map(_name, withheld))}"
        else:
            where = ""
        chips = sum(check.chips for check in withheld)
        reason = "most of these chips are unlike the training chips"
        sentences.append(f"class sets withheld for {chips:,} chips{where}: {reason}")
    unlike = sum(check.ood for check in checks)
    chips = sum(check.chips for check in checks)
    validation_chips = checks[0].validation_chips
    rate = OOD_FALSE_POSITIVE_RATE
    expected = statistics.expected_share(validation_chips, rate)
    most = statistics.largest_chance_share(
        chips, validation_chips, rate, statistics.SHIFT_LEVEL
    )
    shares = f"{expected:.0%} are expected, up to {most:.0%} by chance"
    sentence = f"{unlike:,} of {chips:,} chips are unlike the training chips ({shares})"
    unusual = sorted(
        (x for x in checks if x.is_unusual), key=lambda x: (-x.ood / x.chips, x.scene)
    )
    if unusual:
        if len(checks) > 1:
            sentence += f": {_list_scenes(f'{x.ood:,} of {x.chips:,} in {_name(x)}' for x in unusual)}"
        sentence += "; do not trust their classes"
    return [*sentences, sentence]


def _name(check: SceneCheck) -> str:
    return check.scene.replace("\\", "/").rstrip("/").rpartition("/")[2] or "the chips"


def _list_scenes(texts: Iterable[str]) -> str:
    names = list(texts)
    more = len(names) - _MAX_SCENES
    return ", ".join(names[:_MAX_SCENES]) + (
        f" and {more:,} more scenes" if more > 0 else ""
    )


@dataclass(frozen=True)
class TruthCheck:
    """Objects of a scene beside the truth.

    Attributes:
        scene: name of the scene.
        objects: number of objects in the truth.
        found: number of them that were detected.
        right: number of found objects with the right class.
        other: number of classified objects that are not in the truth.
    """

    scene: str
    objects: int
    found: int
    right: int
    other: int

    def __str__(self) -> str:
        return f"{self.scene}: {', '.join(self.caption())}"

    def caption(self) -> list[str]:
        """Return the numbers as short lines."""
        return [
            f"{self.found:,} of {self.objects:,} true objects found",
            f"{self.right:,} of them have the right class",
            f"{self.other:,} other objects",
        ]


def check_truth(
    table: pd.DataFrame, scene: RasterScene, truth_path: Path, side: float
) -> TruthCheck:
    """Compare the classified objects of a scene with the truth.

    Each object of the truth is assigned to at most one detection, so that as many as
    possible are assigned. Its center lies in the outline of the object, or at most an
    eighth of a chip's side beside it.

    Args:
        table: predictions with `scene`, `row`, `col` and `class`.
        scene: the scene.
        truth_path: a file of positions, see `read_positions`, with the column `class`.
        side: side of a chip in pixels of the scene.

    Returns:
        The numbers of objects.

    Raises:
        RequestError: see `read_positions`.
        DataError: the file has no column `class`.
    """
    from scipy.optimize import linear_sum_assignment

    from rsft.scenes.locations import read_positions

    truth = read_positions(truth_path, scene)
    if truth.attributes is None or "class" not in truth.attributes:
        raise DataError(
            "the truth has no column class",
            truth_path,
            "give a vector layer or a CSV with the column class",
        )
    name = path_to_text(scene.path.name)
    if len(table):
        rows = table[table["class"].notna() & (table["scene"] == name)]
    else:
        rows = table
    shapes = [
        (
            shapely.Point(x.row, x.col)
            if x.box is None
            else shapely.MultiPoint(np.reshape(x.box, (4, 2))).convex_hull
        )
        for x in truth.locations
    ]
    points = shapely.points(
        rows[["row", "col"]].to_numpy(float) if len(rows) else np.empty((0, 2))
    )
    distances = np.asarray(
        shapely.distance(np.array(shapes, object)[:, None], points[None]), float
    )
    is_near = distances <= side * _TOLERANCE
    objects, detections = linear_sum_assignment(
        np.where(is_near, distances / max(side, 1), 1e6)
    )
    pairs = [(i, j) for i, j in zip(objects, detections, strict=True) if is_near[i, j]]
    class_of = truth.attributes["class"].astype(str).to_dict()
    classes = [class_of[location.source_row] for location in truth.locations]
    right = sum(classes[i] == rows["class"].iloc[j] for i, j in pairs)
    return TruthCheck(
        name, len(truth.locations), len(pairs), right, len(rows) - len(pairs)
    )
