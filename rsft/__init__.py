"""rsft: parameter-efficient fine-tuning for remote sensing.

The public names are imported when they are first used, so that `import rsft` stays fast.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rsft.version import __version__

if TYPE_CHECKING:
    from rsft.evaluation.evaluate import evaluate
    from rsft.inference.predict.pipeline import Predictor
    from rsft.peft.model.attach import attach
    from rsft.recipe.load import load_recipe
    from rsft.recipe.schema import Recipe
    from rsft.training.finetune import finetune

__all__ = ["Recipe", "__version__", "attach", "evaluate", "finetune", "load_bundle", "load_recipe"]

_MODULES = {
    "Recipe": "rsft.recipe.schema",
    "attach": "rsft.peft.model.attach",
    "evaluate": "rsft.evaluation.evaluate",
    "finetune": "rsft.training.finetune",
    "load_recipe": "rsft.recipe.load",
}


def load_bundle(path: Path | str, device: str = "auto", engine: str = "torch", precision: str = "fp32") -> Predictor:
    """Open the bundle of a run for classification.

    Args:
        path: a bundle, a run folder, or runs/<recipe> for its newest run.
        device: auto, cpu or cuda.
        engine: name of the engine, such as torch, onnx or openvino (docs/engines.md).
        precision: fp32, bf16 or int8, if the engine supports it.

    Returns:
        A predictor; its `predict(chips)` returns a table with one row per chip.

    Raises:
        RequestError: the path holds no bundle, or this machine has no such engine.
        WeightsError: the bundle cannot be used, or this machine has another backbone of the same name.

    Example:
        >>> table = load_bundle("runs/ships").predict("new_chips")
        >>> list(table)[:3]
        ['chip', 'path', 'geometry']
    """
    from rsft.inference.predict.pipeline import Predictor

    return Predictor.load(Path(path), device, engine, precision)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return __all__
