"""Compare the chips of every scene with the training and validation chips, and detected objects with the truth."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import shapely

from rsft.errors import DataError
from rsft.inference.inputs.chip_files import path_to_text
from rsft.inference.predict.result_table import format_sets, probability_columns
from rsft.inference.scenes.position_files import read_positions
from rsft.inference.scenes.raster import RasterScene
from rsft.models.uncertainty.calibrator import COVERAGE, OOD_FALSE_POSITIVE_RATE, Calibrator
from rsft.models.uncertainty.ood import chance_of_ood_chips, expected_share, largest_chance_share
from rsft.models.uncertainty.shift import SHIFT_LEVEL, ShiftTest

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
        chance = chance_of_ood_chips(self.ood, self.chips, self.validation_chips, OOD_FALSE_POSITIVE_RATE)
        return chance < SHIFT_LEVEL

    def as_json(self) -> dict[str, Any]:
        """Return the content as JSON values.

        Returns:
            scene, chips, ood, class_sets, shifted (names of the differences that are significant and large),
            differences (size and p of each), and reason (why the chips were not compared; "" if they were).
        """
        return {
            "scene": self.scene,
            "chips": self.chips,
            "ood": self.ood,
            "class_sets": self.class_sets,
            "shifted": list(self.test.shifted),
            "differences": {name: {"size": x.size, "p": x.p} for name, x in self.test.differences.items()},
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
    class_sets, checks = table["class_set"].to_numpy(object, copy=True), []
    for scene, rows in scenes[classified].groupby(scenes[classified]).groups.items():
        chips, positions = table.loc[rows], table.index.get_indexer(rows)
        probabilities = chips[probability_columns(classes)].to_numpy(float)
        ood = chips["ood_distance"].to_numpy(float)
        test, unlike = calibrator.test_shift(probabilities, ood), int((~(ood <= 1)).sum())
        check = SceneCheck(str(scene), len(ood), unlike, test, "withheld", len(calibrator.labels))
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
    """Describe in sentences how the chips differ from the training and validation chips.

    Args:
        checks: one check per scene.

    Returns:
        Sentences, the most important one last; empty without checks.
    """
    if not checks:
        return []
    sentences = []
    if untested := [check for check in checks if check.test.reason]:
        reasons = "; ".join(dict.fromkeys(check.test.reason for check in untested))
        chips = sum(check.chips for check in untested)
        sentences.append(f"not compared with the validation chips: {chips:,} chips ({reasons})")
    if shifted := [check for check in checks if check.test.shifted]:
        measures = (text for name, text in _MEASURES.items() if any(name in check.test.shifted for check in shifted))
        where = f" in {_list_scenes(map(_name, shifted))}" if len(checks) > 1 else ""
        widened = all(check.class_sets == "widened" for check in shifted)
        sentences.append(
            f"the chips{where} are not like the validation chips ({', '.join(measures)}): probabilities are less "
            f"reliable, and class sets may miss the coverage of {COVERAGE:.0%}"
            f"{', although they are widened for these chips' if widened else ''}"
        )
    if withheld := [check for check in checks if check.class_sets == "withheld"]:
        where = f" of {_list_scenes(map(_name, withheld))}" if len(checks) > 1 else ""
        chips = sum(check.chips for check in withheld)
        reason = "most of these chips are unlike the training chips"
        sentences.append(f"class sets withheld for {chips:,} chips{where}: {reason}")
    unlike, chips = sum(check.ood for check in checks), sum(check.chips for check in checks)
    expected = expected_share(checks[0].validation_chips, OOD_FALSE_POSITIVE_RATE)
    most = largest_chance_share(chips, checks[0].validation_chips, OOD_FALSE_POSITIVE_RATE, SHIFT_LEVEL)
    shares = f"{expected:.0%} are expected, up to {most:.0%} by chance"
    sentence = f"{unlike:,} of {chips:,} chips are unlike the training chips ({shares})"
    if unusual := sorted((x for x in checks if x.is_unusual), key=lambda x: (-x.ood / x.chips, x.scene)):
        if len(checks) > 1:
            sentence += f": {_list_scenes(f'{x.ood:,} of {x.chips:,} in {_name(x)}' for x in unusual)}"
        sentence += "; do not trust their classes"
    return [*sentences, sentence]


def _name(check: SceneCheck) -> str:
    return check.scene.replace("\\", "/").rstrip("/").rpartition("/")[2] or "the chips"


def _list_scenes(texts: Iterable[str]) -> str:
    names = list(texts)
    more = len(names) - _MAX_SCENES
    return ", ".join(names[:_MAX_SCENES]) + (f" and {more:,} more scenes" if more > 0 else "")


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


def check_truth(table: pd.DataFrame, scene: RasterScene, truth_path: Path, side: float) -> TruthCheck:
    """Compare the classified objects of a scene with the truth.

    Each object of the truth is assigned to at most one detection, so that as many as possible are assigned. Its center
    lies in the outline of the object, or at most an eighth of a chip's side beside it.

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

    truth = read_positions(truth_path, scene)
    if truth.attributes is None or _COLUMN not in truth.attributes:
        hint = f"give a vector layer or a CSV with the column {_COLUMN}"
        raise DataError(f"the truth has no column {_COLUMN}", truth_path, hint)
    name = path_to_text(scene.path.name)
    rows = table[table["class"].notna() & (table["scene"] == name)] if len(table) else table
    shapes = [
        shapely.Point(x.row, x.col) if x.box is None else shapely.MultiPoint(np.reshape(x.box, (4, 2))).convex_hull
        for x in truth.locations
    ]
    points = shapely.points(rows[["row", "col"]].to_numpy(float) if len(rows) else np.empty((0, 2)))
    distances = np.asarray(shapely.distance(np.array(shapes, object)[:, None], points[None]), float)
    is_near = distances <= side * _TOLERANCE
    objects, detections = linear_sum_assignment(np.where(is_near, distances / max(side, 1), 1e6))
    pairs = [(i, j) for i, j in zip(objects, detections, strict=True) if is_near[i, j]]
    class_of = truth.attributes[_COLUMN].astype(str).to_dict()
    classes = [class_of[location.source_row] for location in truth.locations]
    right = sum(classes[i] == rows["class"].iloc[j] for i, j in pairs)
    return TruthCheck(name, len(truth.locations), len(pairs), right, len(rows) - len(pairs))
