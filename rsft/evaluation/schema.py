"""The content of metrics.json, and the names of the baselines.

`rsft evaluate` writes it and `rsft report` reads it.
"""

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from rsft.metrics.accuracy import AccuracySummary
from rsft.metrics.coverage import SetCoverage
from rsft.metrics.intervals import Interval
from rsft.recipe.library import SMALL_NETWORK_RECIPE
from rsft.types import JsonObject, Names

EVALUATION_FILE = "metrics.json"
ALL_CHIPS = "all"
CHIPS_DIR = "chips"
"""Split that stands for all chips; subfolder of an evaluation with the chip store that
is made of class folders."""

Count = Annotated[int, Field(ge=0, le=10**15)]
"""A number of chips; NumPy cannot compute with much larger ones."""

SMALL_NETWORK = "small network without pre-training"
LINEAR_PROBE = "logit-adjusted linear probe"
DISCRIMINANT = "discriminant on frozen features"
BALANCED_KNN = "class-balanced k-NN"
PLAIN_KNN = "plain k-NN"
PIXEL_KNN = "plain k-NN on pixels"

MEANINGS = {
    SMALL_NETWORK: (
        "A small convolutional network, trained on the same chips from random weights:"
        " what the chips give without an encoder. An encoder that is not better is not"
        " worth its cost."
    ),
    LINEAR_PROBE: (
        "A linear classifier on the frozen features, corrected for the class sizes:"
        " what a head and a loss like those of this run give without trained modules."
    ),
    DISCRIMINANT: (
        "Linear discriminant analysis of the frozen features, with a shrunken"
        " covariance and equal priors: computed at once, and strong with few chips."
    ),
    BALANCED_KNN: (
        "As plain k-NN, with votes divided by the number of training chips of their"
        " class."
    ),
    PLAIN_KNN: (
        "The training chips with the most similar frozen features vote. Common classes"
        " have more votes."
    ),
    PIXEL_KNN: (
        "The training chips with the most similar 16 x 16 pixels vote, without a"
        " network."
    ),
}
"""What each baseline shows, by its name."""

MEASURES = {
    "micro": "overall",
    "macro": "macro",
    "head": "head",
    "medium": "medium",
    "tail": "tail",
}
"""Names of the columns of a table of accuracies, by the attribute of
`rsft.metrics.accuracy.AccuracySummary`."""

_FROZEN = ConfigDict(frozen=True)


class CoverageLevel(BaseModel):
    """The measured coverage of the class sets for one target coverage.

    Attributes:
        target: share of the chips of each class whose set should contain this class.
        groups: measured coverage of all chips ("all") and of head, medium and tail;
            None for a group without chips.
        classes_without_coverage: classes with too few validation chips for this target,
            so that every set contains them.
    """

    model_config = _FROZEN

    target: float
    groups: dict[str, SetCoverage | None]
    classes_without_coverage: list[int]


class SceneCoverage(BaseModel):
    """The measured reliability of the confidence on one group of chips.

    A group is, for example, a scene.

    Attributes:
        group: name of the group.
        accuracy: share of the chips that are classified correctly.
        confidence: mean probability of the predicted class.
        coverage: coverage of the class sets for the target 90 %.
        ood_share: share of chips that are unlike the training chips.
        shifted: names of the differences from the validation chips that are significant
            and large, such as "distance".
    """

    model_config = _FROZEN

    group: str
    accuracy: float
    confidence: float
    coverage: SetCoverage
    ood_share: float
    shifted: list[str]


class CalibrationReport(BaseModel):
    """The measured reliability of probabilities, class sets and OOD flags.

    Attributes:
        temperature: the number by which logits are divided.
        ece_uncalibrated: expected calibration error without the temperature.
        fitted_on_these_chips: whether the calibration was fitted on the evaluated
            chips. It then looks too good.
        coverage: one entry per target coverage.
        ood_false_positive_rate: expected share of flagged chips among chips like the
            validation chips.
        ood_share: share of flagged chips among all evaluated chips ("all").
        scenes: reliability by group of the chip store, such as scene, the largest group
            first; empty if the chips have no groups.
        validation_chips: number of validation chips on which the calibration was
            fitted; None if it is unknown.
    """

    model_config = _FROZEN

    temperature: float
    ece_uncalibrated: float
    fitted_on_these_chips: bool
    coverage: list[CoverageLevel]
    ood_false_positive_rate: float
    ood_share: dict[str, float | None]
    scenes: list[SceneCoverage] = []
    validation_chips: int | None = Field(None, ge=1)


class Leaks(BaseModel):
    """Number of evaluated chips that are not independent of the training.

    Test chips are compared with the training and validation chips of the store,
    validation chips with its training chips.

    Attributes:
        chips: chips with the file, the group or the vessel of another one.
    """

    model_config = _FROZEN

    chips: int = Field(ge=0)


class SmallNetwork(BaseModel):
    """The comparison of the run with the small network without pre-training.

    Attributes:
        epochs: epochs in which the small network was trained.
        macro_difference: macro accuracy of the run minus that of the small network, in
            0-1, with the interval of a paired bootstrap.
    """

    model_config = _FROZEN

    epochs: int = Field(ge=1)
    macro_difference: Interval

    def sentence(self, method: str) -> str:
        """Return the result of the comparison in one sentence.

        `method` is the name of the run's method.

        An interval that touches 0 in its first decimal separates nothing.
        """
        difference = self.macro_difference
        value = round(100 * difference.value, 1) + 0.0
        low = round(100 * difference.low, 1) + 0.0
        high = round(100 * difference.high, 1) + 0.0
        if low > 0:
            relation = "above"
        elif high < 0:
            relation = "below"
        else:
            relation = "not distinguishable from"
        sentence = (
            f"{method} is {relation} a {SMALL_NETWORK} in macro accuracy ({value:+.1f}"
            f" points, 95 % interval {low:+.1f} to {high:+.1f}; {self.epochs:,} epochs)"
        )
        if high < 0:
            name = SMALL_NETWORK_RECIPE
            sentence += (
                f": consider the recipe {name} with these chips (rsft recipes show"
                f" {name})"
            )
        return sentence


class Evaluation(BaseModel):
    """The content of metrics.json.

    Attributes:
        data: the chip store that was evaluated.
        split: the evaluated split.
        classes: class names by index.
        groups: class indices of head, medium and tail.
        methods: accuracy by method: first the method of the run, then the baselines.
        confusion: (C, C) numbers of chips for the method of the run; rows are the true
            classes.
        train_counts: (C,) numbers of training chips.
        count: number of evaluated chips.
        confidence: reliability of the confidence; None for a bundle without
            calibration.
        notes: remarks for the reader.
        leaks: chips that make the accuracy too high; None in a file of rsft 0.2.0 or
            earlier.
        small_network: comparison with the small network without pre-training; None if
            it was not trained.
        differences: accuracy of the run minus that of each baseline, by baseline and
            measure, with the interval of a paired bootstrap; empty in a file of rsft
            0.2.0 or earlier.
    """

    model_config = _FROZEN

    data: str
    split: str
    classes: Names
    groups: dict[str, list[int]]
    methods: dict[str, AccuracySummary] = Field(min_length=1)
    confusion: list[list[Count]]
    train_counts: tuple[Count, ...]
    count: Count
    confidence: CalibrationReport | None = None
    notes: list[str] = []
    leaks: Leaks | None = None
    small_network: SmallNetwork | None = None
    differences: dict[str, dict[str, Interval]] = {}

    @model_validator(mode="after")
    def _check_lengths(self) -> Self:
        lists = [
            self.train_counts,
            self.confusion,
            *self.confusion,
        ]
        for summary in self.methods.values():
            lists += [summary.recall, summary.precision]
            if set(summary.recall) <= {None}:
                raise ValueError("no class has a recall")
        if set(map(len, lists)) != {len(self.classes)}:
            raise ValueError("a list does not have one entry per class")
        return self

    @model_validator(mode="after")
    def _check_indices(self) -> Self:
        levels = self.confidence.coverage if self.confidence else []
        lists = [level.classes_without_coverage for level in levels]
        for indices in [*lists, *self.groups.values()]:
            if not set(indices) <= set(range(len(self.classes))):
                raise ValueError("an index belongs to no class")
        return self

    @property
    def method(self) -> str:
        """Name of the method of the run."""
        return next(iter(self.methods))

    @property
    def summary(self) -> AccuracySummary:
        """Accuracy of the method of the run."""
        return self.methods[self.method]

    @property
    def mark(self) -> str:
        """Sign that follows every accuracy if chips leak; a note explains it."""
        if self.leaks and self.leaks.chips:
            return "*"
        return ""

    @property
    def baselines(self) -> dict[str, AccuracySummary]:
        """Accuracy of each baseline."""
        baselines = dict(self.methods)
        del baselines[self.method]
        return baselines

    def to_dict(self) -> JsonObject:
        """Return the JSON object of metrics.json."""
        methods = {
            name: summary.to_dict(self.classes)
            for name, summary in self.methods.items()
        }
        return {**self.model_dump(), "methods": methods}
