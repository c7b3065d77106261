"""Convert logits to columns of the predictions table: classes, probabilities, class sets and out-of-distribution."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rsft.errors import WeightsError
from rsft.models.outputs import ClassifierOutputs
from rsft.models.uncertainty.calibrator import Calibrator
from rsft.models.uncertainty.temperature_scaling import log_softmax

SET_SEPARATOR = " | "
"""Separator of the classes in a class set. The most probable class comes first."""

_DECIMALS = 6


def predictions_table(
    outputs: ClassifierOutputs, classes: Sequence[str], calibrator: Calibrator | None
) -> pd.DataFrame:
    """Convert the outputs of a network to table columns.

    Args:
        outputs: logits (N, C) and features (N, D).
        classes: names of the C classes.
        calibrator: calibrates probabilities; None leaves them uncalibrated.

    Returns:
        N rows with class, probability, class_2 and probability_2 (with at least two classes), set, ood and
        ood_distance (with a calibrator), and p_<class> of every class.

    Raises:
        WeightsError: the logits are not finite.
    """
    if not np.isfinite(outputs.logits).all():
        raise WeightsError("the model returns logits that are not finite", "", "train it with a lower learning rate")
    estimate = None if calibrator is None else calibrator.apply(*outputs)
    probabilities = np.exp(log_softmax(outputs.logits)) if estimate is None else estimate.probabilities
    order = np.argsort(-probabilities, axis=1, kind="stable")
    rows = np.arange(len(probabilities))
    names = np.array(classes, object)
    first = order[:, 0]
    table = pd.DataFrame({"class": names[first], "probability": probabilities[rows, first].round(_DECIMALS)})
    if len(classes) > 1:
        second = order[:, 1]
        table["class_2"] = names[second]
        table["probability_2"] = probabilities[rows, second].round(_DECIMALS)
    if estimate is not None:
        table["set"] = format_sets(probabilities, estimate.sets, classes)
        table["ood"] = ~(estimate.ood <= 1)  # a distance that is not a number does not make a chip like the others
        table["ood_distance"] = estimate.ood.round(4)
    columns = pd.DataFrame(probabilities.round(_DECIMALS), columns=probability_columns(classes))
    return pd.concat([table, columns], axis=1)


def result_columns(classes: Sequence[str], calibrator: Calibrator | None) -> list[str]:
    """Return the names of the columns of `predictions_table`, for a table in which no chip was classified.

    Args:
        classes: names of the classes.
        calibrator: the calibrator of the model, if it has one.

    Returns:
        The names, in order.
    """
    best = ["class", "probability", *(("class_2", "probability_2") if len(classes) > 1 else ())]
    calibrated = [] if calibrator is None else ["set", "ood", "ood_distance"]
    return [*best, *calibrated, *probability_columns(classes)]


def format_sets(probabilities: NDArray[np.floating], sets: NDArray[np.bool_], classes: Sequence[str]) -> list[str]:
    """Return the classes of every set as a text, the most probable class first.

    Args:
        probabilities: (N, C).
        sets: (N, C), the classes that a chip may have.
        classes: names of the C classes.
    """
    names, order = np.array(classes, object), np.argsort(-probabilities, axis=1, kind="stable")
    return [SET_SEPARATOR.join(names[ranking[members[ranking]]]) for ranking, members in zip(order, sets, strict=True)]


def probability_columns(classes: Sequence[str]) -> list[str]:
    """Return the name of the probability column of each class."""
    return [f"p_{name}" for name in classes]
