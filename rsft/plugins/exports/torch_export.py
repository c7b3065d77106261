"""The export format of torch.export."""

from __future__ import annotations

import json
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from rsft.inference.engines import base
from rsft.inference.engines.graph import (
    GraphFormat,
    GraphModel,
    as_inference_fn,
)

if TYPE_CHECKING:
    from torch.export import ExportedProgram


class TorchExportFormat(GraphFormat):
    """Graph that `torch.export.load` opens without rsft."""

    name = "torch-export"
    title = "torch.export"
    packages = ("torch",)
    file_name = "model.pt2"
    precisions: ClassVar = {
        "fp32": base.EXACT,
        "bf16": base.ROUNDED,
    }
    traces_bfloat16 = True

    def write_graph(
        self, program: ExportedProgram, folder: Path, metadata: Mapping[str, Any]
    ) -> None:
        import torch

        from rsft.utils.atomic_files import write_bytes

        content = BytesIO()  # torch aborts the process if it cannot write to a disk
        torch.export.save(
            program, content, extra_files={"rsft.json": json.dumps(metadata)}
        )
        write_bytes(folder / self.file_name, content.getbuffer())

    def open_graph(self, path: Path, precision: str) -> GraphModel:
        import torch

        return GraphModel(as_inference_fn(torch.export.load(path).module()))
