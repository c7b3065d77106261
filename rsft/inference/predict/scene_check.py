"""Compare the chips of each scene with the training and validation chips."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from rsft.inference.writers.columns import (
    SET_SEPARATOR,
    Classification,
    classified_columns,
    format_sets,
    probability_columns,
)
from rsft.models.uncertainty.calibrator import (
    COVERAGE,
    OOD_FALSE_POSITIVE_RATE,
    Calibrator,
)
from rsft.models.uncertainty.distances import (
    expected_share,
    largest_chance_count,
)
from rsft.models.uncertainty.shift import SHIFT_LEVEL, ShiftTest
from rsft.types import JsonObject

_MAX_SCENES = 10  # scenes that a sentence names
_MEASURES = {
    "distance": "farther from the training chips",
    "probability": "probability",
    "classes": "shares of the classes",
}


@dataclass
class SceneCheck:
    """Whether the chips of a scene are like the training and validation chips.

    Attributes:
        scene: name of the scene; "" if the inputs are chips, which are then compared
            together.
        chips: number of classified chips.
        ood: number of chips that are out of distribution, so unlike the training chips.
        test: the comparison with the validation chips.
        class_sets: widened for the chips of the scene, plain (from the validation chips
            alone), or withheld.
        validation_chips: number of validation chips from which the limit for unlike
            chips was estimated.
        full_sets: number of chips whose class set contains all classes.
        is_lowered: whether the probabilities were lowered.
    """

    scene: str
    chips: int
    ood: int
    test: ShiftTest
    class_sets: Literal["widened", "plain", "withheld"]
    validation_chips: int
    full_sets: int = 0
    is_lowered: bool = False

    @property
    def is_unusual(self) -> bool:
        """Whether more chips are unlike the training chips than chance explains."""
        return self.ood > largest_chance_count(
            self.chips, self.validation_chips, OOD_FALSE_POSITIVE_RATE, SHIFT_LEVEL
        )

    @property
    def is_doubtful(self) -> bool:
        """Whether the chips differ from those of the training.

        Their classes are less reliable then.
        """
        return self.is_unusual or bool(self.test.warnings)

    def as_json(self) -> JsonObject:
        """Return the content as JSON values.

        Returns:
            scene, chips, ood, class_sets, full_sets, lowered, shifted (names of the
            differences that are significant, large and no advantage), and reason (why
            the chips were not compared; "" if they were).
        """
        return {
            "scene": self.scene,
            "chips": self.chips,
            "ood": self.ood,
            "class_sets": self.class_sets,
            "full_sets": self.full_sets,
            "lowered": self.is_lowered,
            "shifted": list(self.test.warnings),
            "reason": self.test.reason,
        }


def check_scenes(
    table: pd.DataFrame, calibrator: Calibrator | None, classes: Sequence[str]
) -> tuple[pd.DataFrame, list[SceneCheck]]:
    """Compare each scene with the bundle's chips, and adjust sets and probabilities.

    The sets of a scene are widened for its chips (`Calibrator.widened_sets`). If most
    chips of a scene are unlike the training chips, its sets are withheld: they are
    empty in the table. If a scene is not like the validation chips, its probabilities
    are lowered (`Calibrator.lowered_probabilities`).

    Args:
        table: predictions with `ood_distance` and the probability of every class; rows
            without `class` stay unchanged.
        calibrator: the calibrator of the bundle; None if it was not calibrated.
        classes: names of the classes.

    Returns:
        The table with adjusted sets and probabilities, and one check per scene.
    """
    if not calibrator or table.empty or "ood_distance" not in table:
        return table, []
    scenes = pd.Series("", table.index)
    if "scene" in table:
        scenes = table["scene"].fillna("")
    scenes = scenes[table["class"].notna()]
    class_sets = table["class_set"].to_numpy(object, copy=True)
    table = table.copy()
    checks = []
    for scene, rows in scenes.groupby(scenes).groups.items():
        positions = table.index.get_indexer(rows)
        probabilities = table.loc[rows, probability_columns(classes)].to_numpy(float)
        ood = table.loc[rows, "ood_distance"].to_numpy(float)
        check = SceneCheck(
            str(scene),
            len(ood),
            int((~(ood <= 1)).sum()),
            calibrator.test_shift(probabilities, ood),
            "plain",
            len(calibrator.labels),
        )
        widened = calibrator.widened_sets(probabilities, ood)
        if check.ood > len(ood) / 2 and check.is_unusual:
            check.class_sets = "withheld"
            class_sets[positions] = None
        elif widened is not None:
            check.class_sets = "widened"
            class_sets[positions] = format_sets(probabilities, widened, classes)
        check.full_sets = _count_full_sets(class_sets[positions], len(classes))
        if check.test.warnings:
            lowered = calibrator.lowered_probabilities(probabilities, ood)
            if lowered is not None:
                check.is_lowered = True
                columns = classified_columns(Classification(classes, lowered, None))
                # the classes of the chips stay
                columns = columns.drop(columns=["class", "class_2"], errors="ignore")
                table.loc[rows, columns.columns] = columns.to_numpy()
        checks.append(check)
    return table.assign(class_set=pd.Series(class_sets, table.index, object)), checks


def _count_full_sets(class_sets: Iterable[str | None], classes: int) -> int:
    """Return how many class sets contain all classes."""
    separators = [text.count(SET_SEPARATOR) for text in class_sets if text is not None]
    return separators.count(classes - 1)


def describe_checks(checks: Sequence[SceneCheck]) -> list[str]:
    """Describe how the chips differ from training and validation chips.

    The most important sentence is the last.
    """
    if not checks:
        return []
    untested = [check for check in checks if check.test.reason]
    shifted = [check for check in checks if check.test.warnings]
    withheld = [check for check in checks if check.class_sets == "withheld"]
    sentences = []
    full = sum(check.full_sets for check in checks)
    if full:
        sentences.append(
            f"class sets of {full:,} of {_count_chips(checks):,} chips contain all"
            " classes, so they tell nothing"
        )
    if untested:
        reasons = "; ".join(dict.fromkeys(check.test.reason for check in untested))
        sentences.append(
            f"not compared with the validation chips: {_count_chips(untested):,} chips"
            f" ({reasons})"
        )
    if shifted:
        sentences.append(_describe_shift(shifted))
    if withheld:
        sentences.append(
            f"class sets withheld for {_count_chips(withheld):,} chips"
            f"{_list_names(' of ', withheld)}: most of these chips are"
            " unlike the training chips"
        )
    return [*sentences, _describe_unlike(checks)]


def _describe_shift(shifted: Sequence[SceneCheck]) -> str:
    """Return the sentence on scenes that are not like the validation chips."""
    warnings = set[str]().union(*(check.test.warnings for check in shifted))
    measures = [text for name, text in _MEASURES.items() if name in warnings]
    lowered = ""
    if any(check.is_lowered for check in shifted):
        lowered = " (lowered to those of the validation chips that resemble these)"
    return (
        f"the chips{_list_names(' in ', shifted)} are not like the validation"
        f" chips ({', '.join(measures)}): probabilities are less reliable"
        f"{lowered}, and class sets may miss the coverage of"
        f" {COVERAGE:.0%}"
    )


def _describe_unlike(checks: Sequence[SceneCheck]) -> str:
    """Return the sentence on chips that are unlike the training chips."""
    unlike = sum(check.ood for check in checks)
    chips = _count_chips(checks)
    validation_chips = checks[0].validation_chips
    rate = OOD_FALSE_POSITIVE_RATE
    expected = expected_share(validation_chips, rate)
    most = largest_chance_count(chips, validation_chips, rate, SHIFT_LEVEL)
    sentence = (
        f"{unlike:,} of {chips:,} chips are unlike the training chips ({expected:.0%}"
        f" are expected, up to {most / chips:.0%} by chance)"
    )
    unusual = [check for check in checks if check.is_unusual]
    if not unusual:
        return sentence
    if len(checks) > 1:
        unusual.sort(key=lambda check: (-check.ood / check.chips, check.scene))
        names = [f"{x.ood:,} of {x.chips:,} in {x.scene}" for x in unusual]
        sentence += f": {_shorten_list(names)}"
    return sentence + "; do not trust their classes"


def _count_chips(checks: Iterable[SceneCheck]) -> int:
    return sum(check.chips for check in checks)


def _list_names(word: str, checks: Sequence[SceneCheck]) -> str:
    """Return a word and the names of scenes; "" for chips of no scene."""
    names = _shorten_list([check.scene for check in checks])
    return word + names if names else ""


def _shorten_list(texts: Sequence[str]) -> str:
    """Return the first texts and the number of others."""
    more = len(texts) - _MAX_SCENES
    shown = ", ".join(texts[:_MAX_SCENES])
    if more > 0:
        return f"{shown} and {more:,} more scenes"
    return shown
