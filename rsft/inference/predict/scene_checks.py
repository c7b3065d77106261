"""Compare the chips of every scene with the training and validation chips, and adjust or withhold their class sets.

Compare detected and classified objects of a scene with the truth: how many were found, and how many are right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray

from rsft.errors import DataError
from rsft.inference.inputs.chip_files import path_to_text
from rsft.inference.predict.pipeline import format_sets, probability_columns
from rsft.inference.scenes.locations import Location, SceneLocations
from rsft.inference.scenes.position_files import read_positions
from rsft.inference.scenes.raster import RasterScene
from rsft.models.uncertainty.calibrator import COVERAGE, OOD_FALSE_POSITIVE_RATE, Calibrator
from rsft.models.uncertainty.ood import chance_of_ood_chips, expected_share, largest_chance_share
from rsft.models.uncertainty.shift import SHIFT_LEVEL, ShiftTest
from rsft.types import Floats

SetStatus = Literal["widened", "plain", "withheld"]
"""How the sets of a scene were made: widened for the chips of the scene, from the validation chips alone, or not."""

_MAX_SCENES = 10  # scenes that a sentence names
_MEASURES = {
    "distance": "distance from the training chips",
    "probability": "probability",
    "classes": "shares of the classes",
}


@dataclass(frozen=True)
class SceneCheck:
    """Whether the chips of a scene are like those that the bundle was trained and calibrated on.

    Attributes:
        scene: path of the scene; "" if the inputs are chips, which are then compared together.
        chips: number of classified chips.
        ood: number of chips that are out of distribution, so unlike the training chips.
        test: the comparison with the validation chips.
        class_sets: how the class sets were made.
        validation_chips: number of validation chips from which the limit for unlike chips was estimated.
    """

    scene: str
    chips: int
    ood: int
    test: ShiftTest
    class_sets: SetStatus
    validation_chips: int

    @property
    def is_unusual(self) -> bool:
        """Whether more chips are unlike the training chips than chance explains."""
        return _exceeds_chance(self.ood, self.chips, self.validation_chips)

    def as_json(self) -> dict[str, Any]:
        """Return the content as JSON values.

        Returns:
            scene, chips, ood, class_sets, shifted (names of the differences that are significant and large),
            differences (size and p of each), and reason (why the chips were not compared; "" if they were).
        """
        differences = {name: {"size": x.size, "p": x.p} for name, x in self.test.differences.items()}
        return {
            "scene": self.scene,
            "chips": self.chips,
            "ood": self.ood,
            "class_sets": self.class_sets,
            "shifted": list(self.test.shifted),
            "differences": differences,
            "reason": self.test.reason,
        }


def check_scenes(
    table: pd.DataFrame, calibrator: Calibrator | None, classes: Sequence[str]
) -> tuple[pd.DataFrame, list[SceneCheck]]:
    """Compare the chips of every scene with the training and validation chips, and adjust their class sets.

    The sets of a scene are widened for its chips (`Calibrator.widened_sets`). If most chips of a scene are unlike the
    training chips, its sets are withheld: they are empty in the table.

    Args:
        table: predictions with `ood_distance` and the probability of every class; rows without `class` stay unchanged.
        calibrator: the calibrator of the bundle; None if it was not calibrated.
        classes: names of the classes.

    Returns:
        The table with adjusted sets, and one check per scene.
    """
    if calibrator is None or table.empty or "ood_distance" not in table:
        return table, []
    classified = table["class"].notna()
    scenes = table["scene"].fillna("") if "scene" in table else pd.Series("", table.index)
    sets, checks = table["class_set"].to_numpy(object, copy=True), []
    for scene, rows in scenes[classified].groupby(scenes[classified]).groups.items():
        chips = table.loc[rows]
        probabilities = chips[probability_columns(classes)].to_numpy(float)
        check, new_sets = _check(str(scene), probabilities, chips["ood_distance"].to_numpy(float), calibrator)
        positions = table.index.get_indexer(rows)
        if check.class_sets == "withheld":
            sets[positions] = None
        elif new_sets is not None:
            sets[positions] = format_sets(probabilities, new_sets, classes)
        checks.append(check)
    return table.assign(class_set=pd.Series(sets, table.index, object)), checks


def _check(
    scene: str, probabilities: NDArray[np.float64], ood: NDArray[np.float64], calibrator: Calibrator
) -> tuple[SceneCheck, NDArray[np.bool_] | None]:
    unlike, test = int((~(ood <= 1)).sum()), calibrator.test_shift(probabilities, ood)
    validation_chips = len(calibrator.labels)
    if unlike > len(ood) / 2 and _exceeds_chance(unlike, len(ood), validation_chips):
        return SceneCheck(scene, len(ood), unlike, test, "withheld", validation_chips), None
    sets = calibrator.widened_sets(probabilities, ood)
    status: SetStatus = "plain" if sets is None else "widened"
    return SceneCheck(scene, len(ood), unlike, test, status, validation_chips), sets


def _exceeds_chance(unlike: int, chips: int, validation_chips: int) -> bool:
    return chance_of_ood_chips(unlike, chips, validation_chips, OOD_FALSE_POSITIVE_RATE) < SHIFT_LEVEL


def describe_checks(checks: Sequence[SceneCheck]) -> list[str]:
    """Describe in sentences how the chips differ from the training and validation chips.

    Args:
        checks: one check per scene.

    Returns:
        Sentences, the most important one last; empty without checks.
    """
    if not checks:
        return []
    return [
        *_describe_untested(checks),
        *_describe_shift(checks),
        *_describe_withheld(checks),
        _describe_unlike(checks),
    ]


def has_warning(checks: Sequence[SceneCheck]) -> bool:
    """Return whether the chips of a scene differ from the training or validation chips."""
    return any(check.is_unusual or check.test.shifted for check in checks)


def _describe_unlike(checks: Sequence[SceneCheck]) -> str:
    unlike, chips = sum(check.ood for check in checks), sum(check.chips for check in checks)
    expected = expected_share(checks[0].validation_chips, OOD_FALSE_POSITIVE_RATE)
    most = largest_chance_share(chips, checks[0].validation_chips, OOD_FALSE_POSITIVE_RATE, SHIFT_LEVEL)
    shares = f"{expected:.0%} are expected, up to {most:.0%} by chance"
    text = f"{unlike:,} of {chips:,} chips are unlike the training chips ({shares})"
    unusual = sorted((x for x in checks if x.is_unusual), key=lambda x: (-x.ood / x.chips, x.scene))
    if not unusual:
        return text
    if len(checks) > 1:
        text += f": {_list_scenes([f'{x.ood:,} of {x.chips:,} in {_name(x)}' for x in unusual])}"
    return f"{text}; do not trust their classes"


def _describe_withheld(checks: Sequence[SceneCheck]) -> list[str]:
    withheld = [check for check in checks if check.class_sets == "withheld"]
    if not withheld:
        return []
    chips = sum(check.chips for check in withheld)
    where = f" of {_list_scenes([_name(x) for x in withheld])}" if len(checks) > 1 else ""
    return [f"class sets withheld for {chips:,} chips{where}: most of these chips are unlike the training chips"]


def _describe_shift(checks: Sequence[SceneCheck]) -> list[str]:
    shifted = [check for check in checks if check.test.shifted]
    if not shifted:
        return []
    names = [name for name in _MEASURES if any(name in check.test.shifted for check in shifted)]
    measures = ", ".join(_MEASURES[name] for name in names)
    where = f" in {_list_scenes([_name(x) for x in shifted])}" if len(checks) > 1 else ""
    widened = ", although they are widened for these chips" if all(x.class_sets == "widened" for x in shifted) else ""
    return [
        f"the chips{where} are not like the validation chips ({measures}): probabilities are less reliable, and class "
        f"sets may miss the coverage of {COVERAGE:.0%}{widened}"
    ]


def _describe_untested(checks: Sequence[SceneCheck]) -> list[str]:
    untested = [check for check in checks if check.test.reason]
    if not untested:
        return []
    chips, reasons = sum(x.chips for x in untested), list(dict.fromkeys(x.test.reason for x in untested))
    return [f"not compared with the validation chips: {chips:,} chips ({'; '.join(reasons)})"]


def _name(check: SceneCheck) -> str:
    return check.scene.replace("\\", "/").rstrip("/").rpartition("/")[2] or "the chips"


def _list_scenes(texts: Sequence[str]) -> str:
    more = len(texts) - _MAX_SCENES
    return ", ".join(texts[:_MAX_SCENES]) + (f" and {more:,} more scenes" if more > 0 else "")


_COLUMN = "class"
_TOLERANCE = 1 / 8  # largest distance of a detection from the outline of the object, as a share of the chip's side


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

    def as_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)


def read_truth(path: Path, scene: RasterScene) -> SceneLocations:
    """Read the objects of a scene with their classes.

    Args:
        path: a file of positions, see `read_positions`, with the column `class`.
        scene: the scene.

    Returns:
        The objects in the scene.

    Raises:
        RequestError: see `read_positions`.
        DataError: the file has no column `class`.
    """
    locations = read_positions(path, scene)
    if locations.attributes is None or _COLUMN not in locations.attributes:
        hint = f"give a vector layer or a CSV with the column {_COLUMN}"
        raise DataError(f"the truth has no column {_COLUMN}", path, hint)
    return locations


def check_truth(table: pd.DataFrame, scene: RasterScene, truth: SceneLocations, side: float) -> TruthCheck:
    """Compare the classified objects of a scene with the truth.

    Each object of the truth is assigned to at most one detection, so that as many as possible are assigned. Its center
    lies in the outline of the object, or at most an eighth of a chip's side beside it.

    Args:
        table: predictions with `scene`, `row`, `col` and `class`.
        scene: the scene.
        truth: from `read_truth`.
        side: side of a chip in pixels of the scene.

    Returns:
        The numbers of objects.
    """
    from scipy.optimize import linear_sum_assignment

    assert truth.attributes is not None
    name = path_to_text(scene.path.name)
    rows = table[table["class"].notna() & (table["scene"] == name)] if len(table) else table
    points = rows[["row", "col"]].to_numpy(float) if len(rows) else np.empty((0, 2))
    distances = _distances(truth.locations, points)
    is_near = distances <= side * _TOLERANCE
    objects, detections = linear_sum_assignment(np.where(is_near, distances / max(side, 1), 1e6))
    pairs = [(i, j) for i, j in zip(objects, detections, strict=True) if is_near[i, j]]
    class_of = truth.attributes[_COLUMN].astype(str).to_dict()
    classes = [class_of[location.source_row] for location in truth.locations]
    right = sum(classes[i] == rows["class"].iloc[j] for i, j in pairs)
    return TruthCheck(name, len(truth.locations), len(pairs), right, len(rows) - len(pairs))


def _distances(locations: Sequence[Location], points: Floats) -> Floats:
    """Return the distances (N, M) of M points from the boxes or points of N locations in pixels; 0 in a box."""
    shapes = [
        shapely.Point(x.row, x.col) if x.box is None else shapely.MultiPoint(np.reshape(x.box, (4, 2))).convex_hull
        for x in locations
    ]
    return np.asarray(shapely.distance(np.array(shapes, object)[:, None], shapely.points(points)[None]), float)
