"""What a bundle is, for a reader who did not train it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rsft.data.imagery.contract import Contract
from rsft.data.imagery.stretch import AS_IT_IS, Stretch
from rsft.models.bundle.bundle import Bundle, find_bundle
from rsft.models.inspection.meta_model import draw
from rsft.models.uncertainty.calibrator import COVERAGE, FLAGGED

if TYPE_CHECKING:
    from torch import Tensor

    from rsft.models.inspection.meta_model import Blueprint


def describe(folder: Path) -> dict[str, Any]:
    """The bundle at `folder` as JSON would hold it.

    Returns:
        name, folder, sha256, rsft_version, bytes, parameters and runs (more than one of an average); classes, each
        with its name, group and training chips; chip (sentences: what one must be), backbone, method (its keys in the
        recipe), scales (block -> position -> value, of an average the mean; None without a modulator), metrics,
        confidence (None where it was not fitted).

    Raises:
        RequestError, WeightsError, RecipeError: as `Bundle.load`; or a backbone that this rsft does not know.
    """
    bundle, place = Bundle.load(folder), find_bundle(folder)
    groups = {name: group for group, names in bundle.groups.items() for name in names}
    blueprint = draw(bundle)
    peft = bundle.recipe.peft
    return {
        "name": bundle.recipe.name,
        "folder": str(place),
        "sha256": bundle.sha256,
        "rsft_version": bundle.rsft_version,
        "bytes": sum(path.stat().st_size for path in place.iterdir()),
        "parameters": sum(tensor.numel() for tensor in bundle.tensors.values()),
        "runs": len(bundle.members),
        "classes": [
            {"name": name, "group": groups.get(name), "train": count}
            for name, count in zip(bundle.classes, bundle.train_counts, strict=True)
        ],
        "chip": chip_words(bundle.contract),
        "backbone": {"name": bundle.recipe.backbone.name, "sha256": bundle.backbone_sha256},
        "method": {"method": peft.method} | peft.model_dump(mode="json", include=set(peft.keys)),
        "scales": scales(bundle.members, blueprint) if blueprint.sites else None,
        "metrics": bundle.metrics,
        "confidence": _confidence(bundle),
    }


def chip_words(contract: Contract) -> dict[str, str]:
    """What a chip must be, in words, by what is asked for."""
    units = list(contract.units)
    inputs = ", ".join(contract.planes) if len(set(contract.planes)) > 1 else f"{contract.planes[0]}, repeated"
    whole = f"{contract.size} x {contract.size} pixels"
    words = {
        "bands": ", ".join(contract.bands),
        "unit": " or ".join(units),
        "inputs": inputs if len(contract.planes) > 1 else contract.planes[0],
        "size": f"the middle {contract.crop} x {contract.crop} pixels, brought to {whole}"
        if contract.crop
        else f"the whole chip, brought to {whole}",
        "spacing": f"{contract.spacing_m:.4g} m a pixel" if contract.spacing_m else "any: training chips named none",
    }
    if contract.digital:
        words["unit"] += f"; digital numbers are {contract.digital}"
    for unit, stretches in contract.units.items():
        planes = dict(zip(contract.planes, stretches, strict=True))
        told = dict.fromkeys(map(_stretch_words, stretches))
        each = next(iter(told)) if len(told) == 1 else "; ".join(f"{p}: {_stretch_words(s)}" for p, s in planes.items())
        words["stretch" if len(units) == 1 else f"stretch of {unit}"] = each
    return words


def _stretch_words(stretch: Stretch) -> str:
    if stretch == AS_IT_IS:
        return "bytes stay as they are"
    high = "the brightest of the chip" if stretch.high is None else f"{stretch.high:.4g}"
    return f"{stretch.low:.4g} is black, {high} is white" + (", log1p between" if stretch.curve == "log1p" else "")


def scales(members: list[dict[str, Tensor]], blueprint: Blueprint) -> dict[int, dict[str, float]]:
    """Block -> position -> softplus(gamma), the mean over the runs; 0 where a site was pruned."""
    import torch

    values = torch.stack([torch.nn.functional.softplus(member["gamma"].float()) for member in members]).mean(dim=0)
    table: dict[int, dict[str, float]] = {}
    for (block, position), value in zip(blueprint.sites, values.tolist(), strict=True):
        table.setdefault(block, {})[position] = round(value, 6)
    return table


def _confidence(bundle: Bundle) -> dict[str, Any] | None:
    fitted = bundle.confidence
    if fitted is None:
        return None
    return {
        "temperature": round(fitted.temperature, 6),
        "chips": len(fitted.scores),
        "coverage": COVERAGE,
        "flagged": FLAGGED,
        "notes": fitted.notes(bundle.classes),
    }
