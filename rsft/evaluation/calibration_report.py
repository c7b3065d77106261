"""Measure the reliability of probabilities, class sets and OOD flags of a bundle."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from rsft.evaluation import schema
from rsft.metrics.accuracy import expected_calibration_error
from rsft.metrics.coverage import (
    coverage_by_group,
    measure_coverage,
)
from rsft.models.outputs import ClassifierOutputs
from rsft.models.uncertainty.calibrator import (
    COVERAGE,
    OOD_FALSE_POSITIVE_RATE,
    Calibrator,
    ConfidenceEstimate,
)
from rsft.models.uncertainty.shift import ShiftTest
from rsft.models.uncertainty.temperature import log_softmax
from rsft.types import Labels

COVERAGE_TARGETS = (0.8, COVERAGE, 0.95)
"""Target coverages of the measured class sets."""


def estimate_by_scene(
    calibrator: Calibrator,
    outputs: ClassifierOutputs,
    scenes: NDArray[np.str_],
    coverage: float = COVERAGE,
) -> ConfidenceEstimate:
    """Estimate the confidence of predictions as `rsft predict` does.

    Sets are widened for every scene, and probabilities lowered for a scene that is not
    like the validation chips.

    Args:
        calibrator: calibrator of the bundle.
        outputs: logits and features of the N chips.
        scenes: (N,) group of each chip, such as its scene; "" for a chip without a
            group.
        coverage: share of the chips of each class for which the set should contain the
            true class.

    Returns:
        Probabilities, sets and distances. The sets of a scene with few chips are not
        widened.
    """
    estimate = calibrator.apply(*outputs, coverage=coverage)
    for scene in np.unique(scenes):
        rows = scenes == scene
        probabilities = estimate.probabilities[rows]
        ood = estimate.ood[rows]
        widened = calibrator.widened_sets(probabilities, ood, coverage)
        if widened is not None:
            estimate.sets[rows] = widened
        if calibrator.test_shift(probabilities, ood).warnings:
            lowered = calibrator.lowered_probabilities(probabilities, ood)
            if lowered is not None:
                estimate.probabilities[rows] = lowered
    return estimate


def measure_calibration(
    calibrator: Calibrator,
    outputs: ClassifierOutputs,
    labels: Labels,
    groups: Mapping[str, Sequence[int]],
    scenes: NDArray[np.str_],
) -> schema.CalibrationReport:
    """Measure a bundle's calibration on labeled chips.

    Args:
        calibrator: calibrator of the bundle.
        outputs: logits and features of the N chips.
        labels: (N,) class indices.
        groups: class indices of head, medium and tail.
        scenes: (N,) group of each chip, such as its scene; "" for a chip without a
            group.

    Returns:
        The entry "confidence" of metrics.json.
    """
    estimates = {
        target: estimate_by_scene(calibrator, outputs, scenes, target)
        for target in COVERAGE_TARGETS
    }
    levels = []
    for target, level in estimates.items():
        levels.append(
            schema.CoverageLevel(
                target=target,
                groups=coverage_by_group(level.sets, labels, groups),
                classes_without_coverage=calibrator.classes_without_coverage(target),
            )
        )
    estimate = estimates[COVERAGE]
    names, counts = np.unique(scenes[scenes != ""], return_counts=True)
    plain = calibrator.apply(*outputs)
    scene_reports = []
    for name in names[np.argsort(-counts, kind="stable")]:
        rows = scenes == name
        chips = ConfidenceEstimate(*(values[rows] for values in estimate))
        test = calibrator.test_shift(plain.probabilities[rows], plain.ood[rows])
        scene_reports.append(_measure_scene(name, chips, labels[rows], test))
    return schema.CalibrationReport(
        temperature=calibrator.temperature,
        ece_uncalibrated=expected_calibration_error(
            np.exp(log_softmax(outputs.logits)), labels
        ),
        fitted_on_these_chips=calibrator.was_fitted_on(outputs.logits, labels),
        coverage=levels,
        ood_false_positive_rate=OOD_FALSE_POSITIVE_RATE,
        ood_share={"all": float((estimate.ood > 1).mean())},
        scenes=scene_reports,
        validation_chips=len(calibrator.labels),
    )


def _measure_scene(
    name: str,
    chips: ConfidenceEstimate,
    labels: Labels,
    test: ShiftTest,
) -> schema.SceneCoverage:
    predicted = chips.probabilities.argmax(axis=1)
    return schema.SceneCoverage(
        group=str(name),
        accuracy=float((predicted == labels).mean()),
        confidence=float(chips.probabilities.max(axis=1).mean()),
        coverage=measure_coverage(chips.sets, labels),
        ood_share=float((chips.ood > 1).mean()),
        shifted=list(test.shifted),
    )
