"""Whether an export says what the bundle says: chip by chip, and for int8 by the accuracy of every group."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rsft.errors import RsftError, WeightsError
from rsft.metrics.accuracy import summarise
from rsft.models.outputs import Outputs
from rsft.types import GROUPS

ALLOWED = {"fp32": 1e-3, "bf16": 1e-2}
"""Largest difference of a logit; in bf16 a share of the largest one where that is above 1 (a cosine head's: 25)."""


class Difference(NamedTuple):
    """How far an export is from PyTorch in float32.

    Attributes:
        largest: difference of a logit.
        allowed: for it.
        features: largest difference of a feature, as a share of the largest feature where that is above 1.
        share: allowed for it.
    """

    largest: float
    allowed: float
    features: float
    share: float

    @property
    def fits(self) -> bool:
        """Whether both are no more than allowed."""
        return self.largest <= self.allowed and self.features <= self.share  # not of NaN


def difference(found: Outputs, wanted: Outputs, precision: str) -> Difference:
    """Of N answers."""
    logits, features = (float(np.abs(a - b).max()) for a, b in zip(found, wanted, strict=True))
    reach = [max(1.0, float(np.abs(part).max())) for part in wanted]
    share = ALLOWED[precision]
    return Difference(logits, share * (reach[0] if precision == "bf16" else 1.0), features / reach[1], share)


class Change(NamedTuple):
    """Accuracy of a group in 0-1, PyTorch's in float32 and the export's; its chips, and those answered otherwise."""

    before: float
    after: float
    chips: int
    differ: int

    @property
    def lost(self) -> float:
        """Points; negative where the export is better. One chip of 200 is 0.5, not a digit more."""
        return round(100 * (self.before - self.after), 9)


def changes(
    wanted: Outputs, found: Outputs, labels: NDArray[np.int64], groups: dict[str, list[int]]
) -> dict[str, Change]:
    """Overall (share of chips) and head, medium and tail (mean recall of their classes), as far as there are chips."""
    count = wanted.logits.shape[1]
    first, second = (each.logits.argmax(1) for each in (wanted, found))
    before, after = (summarise(each, labels, count, groups, resamples=1) for each in (first, second))
    lie = {"overall": np.ones(len(labels), bool), **{name: np.isin(labels, groups.get(name, ())) for name in GROUPS}}
    measures = {"overall": "micro", **{name: name for name in GROUPS}}
    pairs = {name: (getattr(before, key), getattr(after, key)) for name, key in measures.items()}
    return {
        name: Change(old.value, new.value, int(lie[name].sum()), int((first != second)[lie[name]].sum()))
        for name, (old, new) in pairs.items()
        if old is not None and new is not None
    }


def must_fit(measured: Difference, where: object) -> None:
    """Refuse an export that differs.

    Raises:
        WeightsError: by more than allowed.
    """
    if not measured.fits:
        what = (
            f"the export differs from PyTorch by {measured.largest:.2g} in a logit ({measured.allowed:.2g} is allowed) "
            f"and by {measured.features:.2g} of the largest feature ({measured.share:.2g})"
        )
        raise WeightsError(what, where, "export another precision or format; nothing was written")


class TooLossy(RsftError):
    """Int8 loses more accuracy than allowed; `table` says where."""

    def __init__(self, what: str, where: object, fix: str, table: dict[str, Change]) -> None:
        super().__init__(what, where, fix)
        self.table = table


def losses(table: dict[str, Change], limit: float) -> str:
    """What loses more than `limit` points, in words; empty where nothing does."""
    return ", ".join(f"{change.lost:.2f} points {name}" for name, change in table.items() if change.lost > limit)


def must_keep(table: dict[str, Change], limit: float, where: object) -> None:
    """Refuse an export that loses accuracy.

    Raises:
        TooLossy: a group loses more than `limit` points.
    """
    if lost := losses(table, limit):
        what = f"int8 loses {lost}; {limit:g} are allowed"
        raise TooLossy(what, where, "export bf16 or fp32, or allow it: --max-loss; nothing was written", table)
