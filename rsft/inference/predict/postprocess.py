"""From logits to what the analyst reads: classes, probabilities, the set, the flag."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from rsft.errors import WeightsError
from rsft.models.outputs import Outputs
from rsft.models.uncertainty.calibrator import Confidence
from rsft.models.uncertainty.temperature_scaling import log_softmax

SEPARATOR = " | "
"""Between the classes of a set, the most probable first."""

_DIGITS = 6


def answers(outputs: Outputs, classes: Sequence[str], confidence: Confidence | None) -> pd.DataFrame:
    """A row a chip: class, probability, class_2, probability_2, of a bundle with confidence set, ood and ood_distance,
    p_<class> of every class.

    Probabilities are calibrated, and sets and flags are there, where the bundle has what they need.

    Raises:
        WeightsError: logits that are not finite.
    """
    if not np.isfinite(outputs.logits).all():
        raise WeightsError("the model returns logits that are not finite", "", "train it again with a lower rate")
    judged = None if confidence is None else confidence.apply(*outputs)
    probabilities = np.exp(log_softmax(outputs.logits)) if judged is None else judged.probabilities
    order = np.argsort(-probabilities, axis=1, kind="stable")
    rows = np.arange(len(probabilities))
    names = np.array(classes, object)
    table = pd.DataFrame({"class": names[order[:, 0]], "probability": probabilities[rows, order[:, 0]].round(_DIGITS)})
    if len(classes) > 1:
        table["class_2"] = names[order[:, 1]]
        table["probability_2"] = probabilities[rows, order[:, 1]].round(_DIGITS)
    if judged is not None:
        table["set"] = [SEPARATOR.join(names[ranks[own[ranks]]]) for ranks, own in zip(order, judged.sets, strict=True)]
        table["ood"] = judged.ood > 1
        table["ood_distance"] = judged.ood.round(4)
    every = pd.DataFrame(probabilities.round(_DIGITS), columns=probability_columns(classes))
    return pd.concat([table, every], axis=1)


def probability_columns(classes: Sequence[str]) -> list[str]:
    """The names of the columns that hold every class's probability."""
    return [f"p_{name}" for name in classes]
