"""Measure on labeled chips how reliable calibrated probabilities, class sets and out-of-distribution flags are."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from rsft.evaluation.schema import CalibrationReport, CoverageLevel, SceneCoverage
from rsft.metrics.accuracy import expected_calibration_error
from rsft.metrics.sets import coverage_by_class, coverage_by_group, measure_coverage
from rsft.models.outputs import ClassifierOutputs
from rsft.models.uncertainty.calibrator import COVERAGE, OOD_FALSE_POSITIVE_RATE, Calibrator, ConfidenceEstimate
from rsft.models.uncertainty.conformal import log_softmax
from rsft.models.uncertainty.shift import MIN_CHIPS
from rsft.types import GROUPS

COVERAGE_TARGETS = (0.8, 0.9, 0.95)
"""Target coverages of the measured class sets."""


def estimate_by_scene(
    calibrator: Calibrator, outputs: ClassifierOutputs, scenes: NDArray[np.str_], coverage: float = COVERAGE
) -> ConfidenceEstimate:
    """Estimate the confidence of predictions as `rsft predict` does: with sets that are widened for every scene.

    Args:
        calibrator: calibrator of the bundle.
        outputs: logits and features of the N chips.
        scenes: (N,) group of each chip, such as its scene; "" for a chip without a group.
        coverage: share of the chips of each class for which the set should contain the true class.

    Returns:
        Probabilities, sets and distances. The sets of a scene with few chips are not widened.
    """
    estimate = calibrator.apply(*outputs, coverage=coverage)
    for scene in np.unique(scenes):
        rows = scenes == scene
        widened = calibrator.widened_sets(estimate.probabilities[rows], estimate.ood[rows], coverage)
        if widened is not None:
            estimate.sets[rows] = widened
    return estimate


def measure_calibration(
    calibrator: Calibrator,
    outputs: ClassifierOutputs,
    labels: NDArray[np.integer],
    groups: Mapping[str, Sequence[int]],
    scenes: NDArray[np.str_],
) -> CalibrationReport:
    """Measure a bundle's calibration on labeled chips.

    Args:
        calibrator: calibrator of the bundle.
        outputs: logits and features of the N chips.
        labels: (N,) class indices.
        groups: class indices of head, medium and tail.
        scenes: (N,) group of each chip, such as its scene; "" for a chip without a group.

    Returns:
        The entry "confidence" of metrics.json.
    """
    estimates = {target: estimate_by_scene(calibrator, outputs, scenes, target) for target in COVERAGE_TARGETS}
    estimate = estimates[COVERAGE]
    is_ood = estimate.ood > 1
    names, counts = np.unique(scenes[scenes != ""], return_counts=True)
    members = {"all": np.ones(len(labels), bool)}
    members |= {name: np.isin(labels, list(groups[name])) for name in GROUPS if name in groups}
    return CalibrationReport(
        temperature=calibrator.temperature,
        ece_uncalibrated=expected_calibration_error(np.exp(log_softmax(outputs.logits)), labels),
        fitted_on_these_chips=calibrator.was_fitted_on(outputs.logits, labels),
        coverage=[
            CoverageLevel(
                target=target,
                groups=coverage_by_group(level.sets, labels, groups),
                by_class=coverage_by_class(level.sets, labels),
                classes_without_coverage=calibrator.classes_without_coverage(target),
            )
            for target, level in estimates.items()
        ],
        ood_false_positive_rate=OOD_FALSE_POSITIVE_RATE,
        ood_share={name: float(is_ood[mask].mean()) if mask.any() else None for name, mask in members.items()},
        scenes=[
            _measure_scene(
                calibrator,
                str(name),
                ConfidenceEstimate(*(x[scenes == name] for x in estimate)),
                labels[scenes == name],
            )
            for name in names[np.argsort(-counts, kind="stable")]
        ],
        validation_chips=len(calibrator.labels),
    )


def _measure_scene(
    calibrator: Calibrator, scene: str, estimate: ConfidenceEstimate, labels: NDArray[np.integer]
) -> SceneCoverage:
    probabilities = estimate.probabilities
    return SceneCoverage(
        group=scene,
        accuracy=float((probabilities.argmax(axis=1) == labels).mean()),
        confidence=float(probabilities.max(axis=1).mean()),
        coverage=measure_coverage(estimate.sets, labels),
        ood_share=float((estimate.ood > 1).mean()),
        shifted=list(calibrator.test_shift(probabilities, estimate.ood).shifted),
        widened=len(labels) >= MIN_CHIPS,
    )
