"""Measure on labeled chips how reliable calibrated probabilities, class sets and out-of-distribution flags are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from rsft.evaluation.schema import CalibrationReport, CoverageLevel
from rsft.metrics.calibration import expected_calibration_error
from rsft.metrics.sets import coverage_by_class, coverage_by_group
from rsft.models.outputs import ClassifierOutputs
from rsft.models.uncertainty.calibrator import OOD_FALSE_POSITIVE_RATE, Calibrator
from rsft.models.uncertainty.temperature_scaling import log_softmax
from rsft.types import GROUPS

COVERAGE_TARGETS = (0.8, 0.9, 0.95)
"""Target coverages of the measured class sets."""


def measure_calibration(
    calibrator: Calibrator, outputs: ClassifierOutputs, labels: NDArray[np.integer], groups: Mapping[str, Sequence[int]]
) -> CalibrationReport:
    """Measure a bundle's calibration on labeled chips.

    Args:
        calibrator: calibrator of the bundle.
        outputs: logits and features of the N chips.
        labels: (N,) class indices.
        groups: class indices of head, medium and tail.

    Returns:
        The entry "confidence" of metrics.json.
    """
    is_ood = calibrator.apply(*outputs).ood > 1
    members = {"all": np.ones(len(labels), bool)}
    members |= {name: np.isin(labels, list(groups[name])) for name in GROUPS if name in groups}
    return CalibrationReport(
        temperature=calibrator.temperature,
        ece_uncalibrated=expected_calibration_error(np.exp(log_softmax(outputs.logits)), labels),
        fitted_on_these_chips=calibrator.was_fitted_on(outputs.logits, labels),
        coverage=[_coverage_level(calibrator, outputs, labels, groups, target) for target in COVERAGE_TARGETS],
        ood_false_positive_rate=OOD_FALSE_POSITIVE_RATE,
        ood_share={name: float(is_ood[mask].mean()) if mask.any() else None for name, mask in members.items()},
    )


def _coverage_level(
    calibrator: Calibrator,
    outputs: ClassifierOutputs,
    labels: NDArray[np.integer],
    groups: Mapping[str, Sequence[int]],
    target: float,
) -> CoverageLevel:
    sets = calibrator.apply(*outputs, coverage=target).sets
    return CoverageLevel(
        target=target,
        groups=coverage_by_group(sets, labels, groups),
        by_class=coverage_by_class(sets, labels),
        classes_without_coverage=calibrator.classes_without_coverage(target),
    )
