"""The model of an MLflow export: a whole pipeline in ONNX Runtime.

rsft copies this file into the export.

It runs without rsft, so it imports nothing of it.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel


class ChipClassifier(PythonModel):
    """Classifies the pixels of chips."""

    def load_context(self, context: Any) -> None:
        """Open the graph; its metadata has the classes."""
        path = Path(context.artifacts["graph"]) / "model.onnx"
        self.session = onnxruntime.InferenceSession(
            path, providers=["CPUExecutionProvider"]
        )
        self.classes = json.loads(
            self.session.get_modelmeta().custom_metadata_map["classes"]
        )

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]  # MLflow reads type hints
        """Return a table with one row per chip.

        Args:
            context: not used.
            model_input: pixels of chips (N, B, H, W) in the unit that the metadata
                names.
            params: not used.

        Returns:
            class, probability, the probability p_CLASS of each class, and of a
            calibrated bundle ood_distance.
        """
        names = [output.name for output in self.session.get_outputs()]
        outputs = self.session.run(
            names,
            {self.session.get_inputs()[0].name: np.asarray(model_input, np.float32)},
        )
        probabilities = outputs[0]
        table = {
            "class": np.asarray(self.classes)[probabilities.argmax(1)],
            "probability": probabilities.max(1),
        }
        table |= {
            f"p_{name}": column
            for name, column in zip(self.classes, probabilities.T, strict=True)
        }
        return pd.DataFrame(table | dict(zip(names[1:], outputs[1:], strict=True)))


set_model(ChipClassifier())
