"""Measure predictions on long-tailed data: accuracy, intervals, comparison, sets.

Labels and predictions are class indices (N,), and groups name the classes with many,
some and few training chips: {"head": [0], "medium": [1], "tail": [2]}.
"""

from rsft.metrics.accuracy import (
    confusion_matrix,
    expected_calibration_error,
    summarize_accuracy,
)
from rsft.metrics.comparison import compare_predictions, exact_mcnemar, holm_adjust
from rsft.metrics.coverage import (
    coverage_by_group,
    measure_coverage,
)

__all__ = [
    "compare_predictions",
    "confusion_matrix",
    "coverage_by_group",
    "exact_mcnemar",
    "expected_calibration_error",
    "holm_adjust",
    "measure_coverage",
    "summarize_accuracy",
]
