"""Compare two bundles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rsft.models.bundle.bundle import Bundle
from rsft.models.bundle.licenses import SourceLicense
from rsft.models.inspection.describe import describe_contract

if TYPE_CHECKING:
    from torch import Tensor

TENSOR_KINDS = ("adapter", "gamma", "head")
"""The kinds of learned tensors."""


def diff_bundles(first: Path, second: Path) -> dict[str, Any]:
    """Compare two bundles and return the differences as data for JSON.

    Args:
        first: a folder as in `find_bundle`.
        second: a folder as in `find_bundle`.

    Returns:
        "sha256" of both bundles. "recipe", "classes", "chip", "backbone", "licenses" and "metrics": name -> the two
        values, for names with different values. A value is None if the bundle lacks the name; the value of a class is
        its number of training chips; a license is named after its source, "backbone" or "data". "order": the class
        names of both bundles, if names or order differ. "tensors": kind -> number of tensors in "both", only in the
        "first" and only in the "second" bundle; "max", the largest absolute difference; and "relative", the norm of the
        difference divided by the norm of the first. "max" and "relative" are None if no tensor can be compared.

    Raises:
        RequestError: a folder contains no bundle.
        WeightsError: a bundle is damaged or changed.
        RecipeError: this version of rsft does not know a recipe.
    """
    bundles = Bundle.load(first), Bundle.load(second)
    same_classes = bundles[0].classes == bundles[1].classes
    return {
        "sha256": [bundle.sha256 for bundle in bundles],
        "recipe": _differences([bundle.recipe.flatten() for bundle in bundles]),
        "classes": _differences([dict(zip(b.classes, b.train_counts, strict=True)) for b in bundles]),
        "order": [] if same_classes else [list(bundle.classes) for bundle in bundles],
        "chip": _differences([describe_contract(bundle.contract) for bundle in bundles]),
        "backbone": _differences([{bundle.recipe.backbone.name: bundle.backbone_sha256} for bundle in bundles]),
        "licenses": _differences([_license_values(bundle.licenses) for bundle in bundles]),
        "metrics": _differences([_metric_values(bundle.metrics) for bundle in bundles]),
        "tensors": _diff_tensors(bundles[0].tensors, bundles[1].tensors),
    }


def tensor_kind(name: str) -> str:
    """Return the kind of a learned tensor, one of `TENSOR_KINDS`.

    Args:
        name: the name of the tensor in a bundle.
    """
    name = name.split(".", 2)[2] if name.startswith("runs.") else name
    return "gamma" if name == "gamma" else "head" if name.startswith("head.") else "adapter"


def _differences(pair: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    keys = dict.fromkeys(key for mapping in pair for key in mapping)
    rows = {key: [mapping.get(key) for mapping in pair] for key in keys}
    return {key: values for key, values in rows.items() if values[0] != values[1]}


def _license_values(licenses: Sequence[SourceLicense]) -> dict[str, str]:
    return {entry.source: f"{entry.name}: {entry}" if entry.name else str(entry) for entry in licenses}


def _metric_values(metrics: Mapping[str, Any]) -> dict[str, Any]:
    return {name: metric["value"] if isinstance(metric, dict) else metric for name, metric in metrics.items()}


def _diff_tensors(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> dict[str, dict[str, Any]]:
    differences = {}
    for kind in TENSOR_KINDS:
        names, other_names = ({name for name in state if tensor_kind(name) == kind} for state in (first, second))
        shared = sorted(name for name in names & other_names if first[name].shape == second[name].shape)
        if names or other_names:
            counts = {"both": len(shared), "first": len(names) - len(shared), "second": len(other_names) - len(shared)}
            differences[kind] = counts | _distance([(first[name], second[name]) for name in shared])
    return differences


def _distance(pairs: Sequence[tuple[Tensor, Tensor]]) -> dict[str, float | None]:
    """Return the distance between tensors; equal values count as 0, also -inf, the gamma of a pruned site."""
    if not pairs:
        return {"max": None, "relative": None}
    largest = squared_distance = squared_norm = 0.0
    for first, second in pairs:
        a, b = first.double(), second.double()
        difference = (a - b).masked_fill(a == b, 0.0)
        largest = max(largest, float(difference.abs().max())) if difference.numel() else largest
        squared_distance += float(difference.square().sum())
        squared_norm += float(a.square().sum())
    return {"max": largest, "relative": (squared_distance / squared_norm) ** 0.5 if squared_norm else None}
