"""Two bundles side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rsft.models.bundle.bundle import Bundle
from rsft.models.inspection.describe import chip_words
from rsft.recipe.load import flatten

if TYPE_CHECKING:
    from torch import Tensor

KINDS = ("adapter", "gamma", "head")


def compare(first: Path, second: Path) -> dict[str, Any]:
    """What differs, as JSON would hold it; a part that is equal is empty.

    Returns:
        sha256 of both; recipe, classes, chip, backbone and metrics: name -> the two values, None where one lacks it
        (of a class its number of training chips); tensors: of each kind that either holds, how many both have, only
        the first and only the second; max, the largest absolute difference, and relative, the norm of the difference
        by that of the first, both None where nothing can be compared.

    Raises:
        RequestError, WeightsError, RecipeError: as `Bundle.load`.
    """
    one, other = Bundle.load(first), Bundle.load(second)
    both = (one, other)
    return {
        "sha256": [each.sha256 for each in both],
        "recipe": _apart([flatten(each.recipe) for each in both]),
        "classes": _apart([dict(zip(each.classes, each.train_counts, strict=True)) for each in both]),
        "order": [] if one.classes == other.classes else [list(each.classes) for each in both],
        "chip": _apart([chip_words(each.contract) for each in both]),
        "backbone": _apart([{each.recipe.backbone.name: each.backbone_sha256} for each in both]),
        "metrics": _apart([_values(each.metrics) for each in both]),
        "tensors": _tensors(one.tensors, other.tensors),
    }


def kind(name: str) -> str:
    """Which of KINDS a tensor is, of an average too."""
    own = name.split(".", 2)[2] if name.startswith("runs.") else name
    return "gamma" if own == "gamma" else "head" if own.startswith("head.") else "adapter"


def _apart(both: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    keys = dict.fromkeys(key for each in both for key in each)
    rows = {key: [each.get(key) for each in both] for key in keys}
    return {key: values for key, values in rows.items() if values[0] != values[1]}


def _values(metrics: Mapping[str, Any]) -> dict[str, Any]:
    return {name: found["value"] if isinstance(found, dict) else found for name, found in metrics.items()}


def _tensors(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> dict[str, dict[str, Any]]:
    found = {}
    for wanted in KINDS:
        names, theirs = ({name for name in each if kind(name) == wanted} for each in (one, other))
        shared = sorted(name for name in names & theirs if one[name].shape == other[name].shape)
        if names or theirs:
            counts = {"both": len(shared), "first": len(names) - len(shared), "second": len(theirs) - len(shared)}
            found[wanted] = counts | _distance([(one[name], other[name]) for name in shared])
    return found


def _distance(pairs: Sequence[tuple[Tensor, Tensor]]) -> dict[str, float | None]:
    """A gamma of -inf, a site that is off, is no distance from another."""
    if not pairs:
        return {"max": None, "relative": None}
    largest = apart = norm = 0.0
    for first, second in pairs:
        mine, theirs = first.double(), second.double()
        gap = (mine - theirs).masked_fill(mine == theirs, 0.0)
        largest = max(largest, float(gap.abs().max())) if gap.numel() else largest
        apart, norm = apart + float(gap.square().sum()), norm + float(mine.square().sum())
    return {"max": largest, "relative": (apart / norm) ** 0.5 if norm else None}
