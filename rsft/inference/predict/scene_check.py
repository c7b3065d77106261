"""Compare the chips of each scene with the training and validation chips."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from rsft.models.uncertainty import statistics
from rsft.models.uncertainty.calibrator import (
    COVERAGE,
    OOD_FALSE_POSITIVE_RATE,
    Calibrator,
)

if TYPE_CHECKING:
    pass
from rsft.inference.writers.columns import (format_sets)
from rsft.inference.writers.columns import probability_columns

_MAX_SCENES = 10  # scenes that a sentence names

_MEASURES = {
    "distance": "farther from the training chips",
    "probability": "probability",
    "classes": "shares of the classes",
}


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
