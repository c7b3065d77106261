"""What the confidence of a bundle is worth on labelled chips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsft.metrics.calibration import expected_calibration_error
from rsft.metrics.sets import coverage_by_class, coverage_by_group
from rsft.models.outputs import Outputs
from rsft.models.uncertainty.calibrator import FLAGGED, Confidence
from rsft.models.uncertainty.temperature_scaling import log_softmax
from rsft.types import GROUPS

COVERAGES = (0.8, 0.9, 0.95)


def examine(
    confidence: Confidence, outputs: Outputs, labels: NDArray[np.integer], groups: Mapping[str, Sequence[int]]
) -> dict[str, Any]:
    """The part "confidence" of metrics.json.

    temperature; ece_uncalibrated: what `ece` of the method would be without it; fitted_here: whether these are the
    chips that the confidence was fitted on, so that it looks better than it is; coverage: for each of `COVERAGES` what
    was found, by group and by class, and the indices of the classes that are in every set for want of validation
    chips; strange: the share of chips called strange, all and by group, where `flagged` of such chips would be.
    """
    raw = np.exp(log_softmax(outputs.logits))
    ood = confidence.apply(*outputs).ood > 1
    members = {"all": np.ones(len(labels), bool)}
    members |= {name: np.isin(labels, list(groups[name])) for name in GROUPS if name in groups}
    return {
        "temperature": confidence.temperature,
        "ece_uncalibrated": expected_calibration_error(raw, labels),
        "fitted_here": confidence.was_fitted_on(outputs.logits, labels),
        "coverage": [_coverage(confidence, outputs, labels, groups, asked) for asked in COVERAGES],
        "flagged": FLAGGED,
        "strange": {name: float(ood[mask].mean()) if mask.any() else None for name, mask in members.items()},
    }


def _coverage(
    confidence: Confidence,
    outputs: Outputs,
    labels: NDArray[np.integer],
    groups: Mapping[str, Sequence[int]],
    asked: float,
) -> dict[str, Any]:
    sets = confidence.apply(*outputs, coverage=asked).sets
    by_group = coverage_by_group(sets, labels, groups)
    return {
        "asked": asked,
        "groups": {name: found and found.to_dict() for name, found in by_group.items()},
        "by_class": coverage_by_class(sets, labels),
        "scarce": confidence.scarce(asked),
    }
