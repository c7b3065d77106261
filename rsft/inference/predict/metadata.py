"""Describe how a predictions table was made."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, cast

from rsft.inference.options import PredictionRequest
from rsft.inference.predict.chip_files import PredictionPlan
from rsft.inference.writers.layer import creation_metadata
from rsft.models.bundle.bundle import Bundle
from rsft.scenes.fingerprint import scene_fingerprint
from rsft.types import JsonObject
from rsft.utils.operating_system import path_to_text

if TYPE_CHECKING:
    from rsft.inference.predict.scene_chips import SceneChips


def table_metadata(
    bundle: Bundle,
    plan: PredictionPlan,
    request: PredictionRequest,
    notes: list[str],
    engine: JsonObject,
) -> JsonObject:
    """Describe how a predictions table was made, as JSON values.

    Args:
        bundle: the bundle that classified the chips.
        plan: the scenes of the job. Of each one, `cuts` says how chips were cut, so
            that they can be cut again.
        request: the options of the job.
        notes: remarks for the reader.
        engine: description of the engine.

    Returns:
        The values by key, which are written with the table.
    """
    return {
        **creation_metadata(),
        "bundle_sha256": bundle.sha256,
        "recipe": bundle.recipe.name,
        "backbone": bundle.recipe.backbone.name,
        "classes": list(bundle.classes),
        "train_counts": bundle.counts_by_class,
        "bands": list(bundle.contract.used_bands),
        "scenes": [path_to_text(scene.path) for scene in plan.scenes],
        "products": [scene.record() for scene in plan.scenes],
        "cuts": [_describe_cut(source) for source in scene_sources(plan)],
        "engine": engine,
        "request": json.loads(json.dumps(asdict(request), default=path_to_text)),
        "notes": notes,
    }


def scene_sources(plan: PredictionPlan) -> Sequence[SceneChips]:
    """Return the sources of the chips, if they are cut from scenes."""
    if plan.scenes:
        return cast("Sequence[SceneChips]", plan.sources)
    return ()


def _describe_cut(source: SceneChips) -> JsonObject:
    """Return how the chips of a scene are cut."""
    path = source.scene.path
    return {
        "scene": path_to_text(path.name),
        "path": path_to_text(path.absolute()),
        "fingerprint": scene_fingerprint(path),
        "unit": source.unit,
        "side": source.window.side,
        "margin": source.window.margin,
        "scale": list(source.window.scale),
        "tiles": source.is_tiled,
    }
