"""The export format of MLflow: the whole pipeline as a model."""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, ClassVar

from rsft.inference.engines import base, graph
from rsft.inference.engines.onnx import OnnxEngine, describe_pixels
from rsft.types import Floats32, JsonObject

if TYPE_CHECKING:
    from torch.export import ExportedProgram


class MlflowFormat(OnnxEngine):
    """Model of MLflow: the whole pipeline in ONNX Runtime.

    It returns a table with the names of the classes.
    """

    name = "mlflow"
    title = "MLflow"
    extra = "mlflow"
    packages = ("mlflow", "onnxruntime")
    file_name = "MLmodel"
    precisions: ClassVar = {"fp32": base.EXACT}
    whole_only = True

    def write_graph(
        self, program: ExportedProgram, folder: Path, metadata: JsonObject
    ) -> None:
        """Write the graph, and let MLflow write a model around it."""
        import numpy as np
        import pandas as pd

        pyfunc = self.require("mlflow.pyfunc")
        models = self.require("mlflow.models")
        columns = ["probability"]
        columns += [f"p_{name}" for name in metadata["classes"]]
        columns += list(metadata["outputs"])[1:]
        numbers = pd.DataFrame(0, [0], columns, "float32")
        numbers.insert(0, "class", "a class")
        (example,), _ = program.example_inputs
        signature = models.infer_signature(np.asarray(example), numbers)
        packages = base.installed_versions(("numpy", "onnxruntime", "pandas"))
        with TemporaryDirectory() as temporary, graph.silence_output():
            graph_dir = Path(temporary) / "graph"
            graph_dir.mkdir()
            OnnxEngine().write_graph(program, graph_dir, metadata)
            # MLflow writes the path of the code into its files: not that of this
            # installation
            code = shutil.copy(Path(__file__).with_name("mlflow_model.py"), temporary)
            pyfunc.save_model(
                folder,
                python_model=code,
                artifacts={"graph": str(graph_dir)},
                signature=signature,
                pip_requirements=[
                    f"{package}=={version}" for package, version in packages.items()
                ],
                metadata=describe_pixels(metadata) | {"classes": metadata["classes"]},
            )

    def run_pipeline(self, path: Path, pixels: Floats32) -> list[Floats32]:
        with graph.silence_output():
            table = (
                self.require("mlflow.pyfunc")
                .load_model(str(path.parent))
                .predict(pixels)
            )
        is_probability = [name.startswith("p_") for name in table]
        distances = [table[name].to_numpy() for name in table if name == "ood_distance"]
        return [table.loc[:, is_probability].to_numpy(), *distances]
