"""rsft: parameter-efficient fine-tuning for remote sensing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rsft.inference.predict.predictor import Predictor

__all__ = ["__version__", "load_bundle"]
__version__ = "0.1.0"


def load_bundle(path: Path | str, device: str = "auto", engine: str = "torch", precision: str = "fp32") -> Predictor:
    """The bundle of a run, ready to classify: `load_bundle("runs/ships").predict(chips)` gives a table.

    Args:
        path: a bundle, the folder of a run, or runs/<recipe>, of which the newest is taken.
        device: auto, cpu or cuda.
        engine: torch, onnx or openvino (docs/engines.md).
        precision: fp32, bf16 or int8, as far as the engine has it.

    Raises:
        RequestError: there is no bundle.
        WeightsError: it cannot be used, or its backbone is another one here.
    """
    from rsft.inference.predict.predictor import Predictor

    return Predictor.load(Path(path), device, engine, precision)
