"""Describe a bundle for a reader who did not train it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rsft.data.imagery.contract import Contract
from rsft.data.imagery.stretch import IDENTITY_STRETCH, Stretch
from rsft.models.bundle.bundle import Bundle, find_bundle
from rsft.models.inspection.sites import find_sites
from rsft.models.uncertainty.calibrator import COVERAGE, OOD_FALSE_POSITIVE_RATE

if TYPE_CHECKING:
    from torch import Tensor

    from rsft.peft import Site


def describe_bundle(folder: Path) -> dict[str, Any]:
    """Describe a bundle as data for JSON.

    Args:
        folder: a folder as in `find_bundle`.

    Returns:
        name, folder, sha256, rsft_version, bytes, parameters; runs (number of runs); classes (name, group and number of
        training chips of each); chip (`describe_contract`); backbone; licenses (source, name, license and restrictions
        of the backbone and the data); method (its recipe keys); scales (block -> position -> scale, the mean over the
        runs; None without a modulator); metrics; confidence (None without a calibrator).

    Raises:
        RequestError: `folder` contains no bundle, or this version of rsft does not know its backbone.
        WeightsError: the bundle is damaged or changed.
        RecipeError: this version of rsft does not know its recipe.
    """
    bundle, bundle_dir = Bundle.load(folder), find_bundle(folder)
    group_of = {name: group for group, names in bundle.groups.items() for name in names}
    sites = find_sites(bundle)
    peft = bundle.recipe.peft
    return {
        "name": bundle.recipe.name,
        "folder": str(bundle_dir),
        "sha256": bundle.sha256,
        "rsft_version": bundle.rsft_version,
        "bytes": sum(path.stat().st_size for path in bundle_dir.iterdir()),
        "parameters": sum(tensor.numel() for tensor in bundle.tensors.values()),
        "runs": len(bundle.members),
        "classes": [
            {"name": name, "group": group_of.get(name), "train": count}
            for name, count in zip(bundle.classes, bundle.train_counts, strict=True)
        ],
        "chip": describe_contract(bundle.contract),
        "backbone": {"name": bundle.recipe.backbone.name, "sha256": bundle.backbone_sha256},
        "licenses": [entry.model_dump(mode="json") for entry in bundle.licenses],
        "method": peft.model_dump(mode="json"),
        "scales": mean_scales(bundle.members, sites) if sites else None,
        "metrics": bundle.metrics,
        "confidence": _describe_calibrator(bundle),
    }


def describe_contract(contract: Contract) -> dict[str, str]:
    """Describe in words what a chip must be.

    Args:
        contract: the contract of a bundle.

    Returns:
        Subject -> description; the subjects are bands, unit, inputs, size, spacing, and one stretch for each unit.
    """
    units = list(contract.units)
    inputs = ", ".join(contract.planes) if len(set(contract.planes)) > 1 else f"{contract.planes[0]}, repeated"
    size = f"resized to {contract.size} x {contract.size} pixels"
    sentences = {
        "bands": _describe_bands(contract),
        "unit": " or ".join(units),
        "inputs": inputs if len(contract.planes) > 1 else contract.planes[0],
        "size": f"the central {contract.crop} x {contract.crop} pixels, {size}"
        if contract.crop
        else f"the whole chip, {size}",
        "spacing": f"{contract.spacing_m:.4g} m per pixel"
        if contract.spacing_m
        else "any: the training chips have no common spacing",
    }
    if contract.digital:
        sentences["unit"] += f"; digital numbers are {contract.digital}"
    for unit, stretches in contract.units.items():
        by_plane = {plane: _describe_stretch(s) for plane, s in zip(contract.planes, stretches, strict=True)}
        distinct = list(dict.fromkeys(map(_describe_stretch, stretches)))
        sentence = distinct[0] if len(distinct) == 1 else "; ".join(f"{p}: {text}" for p, text in by_plane.items())
        sentences["stretch" if len(units) == 1 else f"stretch of {unit}"] = sentence
    return sentences


def _describe_bands(contract: Contract) -> str:
    used = ", ".join(contract.used_bands)
    unused = [band for band in contract.bands if band not in contract.used_bands]
    return f"{used}; the training chips also have {', '.join(unused)}, which the model does not use" if unused else used


def _describe_stretch(stretch: Stretch) -> str:
    if stretch == IDENTITY_STRETCH:
        return "bytes stay unchanged"
    high = "the maximum of the chip" if stretch.high is None else f"{stretch.high:.4g}"
    return f"{stretch.low:.4g} is black, {high} is white" + (", log1p between" if stretch.curve == "log1p" else "")


def mean_scales(members: list[dict[str, Tensor]], sites: Sequence[Site]) -> dict[int, dict[str, float]]:
    """Return the learned scales of a bundle, averaged over its runs; a pruned site has 0.

    Args:
        members: the learned tensors of each run.
        sites: the sites of the modulator, in the order of gamma.

    Returns:
        Block -> position -> scale.
    """
    import torch

    from rsft.peft import gamma_to_scale

    scales = torch.stack([gamma_to_scale(member["gamma"].float()) for member in members]).mean(dim=0)
    table: dict[int, dict[str, float]] = {}
    for (block, position), scale in zip(sites, scales.tolist(), strict=True):
        table.setdefault(block, {})[position] = round(scale, 6)
    return table


def _describe_calibrator(bundle: Bundle) -> dict[str, Any] | None:
    calibrator = bundle.calibrator
    if calibrator is None:
        return None
    return {
        "temperature": round(calibrator.temperature, 6),
        "chips": len(calibrator.scores),
        "coverage": COVERAGE,
        "flagged": OOD_FALSE_POSITIVE_RATE,
        "promise": calibrator.promise(),
        "notes": calibrator.notes(bundle.classes),
    }
