"""Export formats that store weights without a graph: timm and Hugging Face PEFT."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from rsft.inference.engines.base import EXACT, FORMATS, ExportFormat, Tolerance

if TYPE_CHECKING:
    from torch import Tensor

    from rsft.models.bundle.bundle import Bundle
    from rsft.models.outputs import ClassifierOutputs


@FORMATS.register
class TimmFormat(ExportFormat):
    """State dict of the merged network and its head, as timm loads it."""

    name = "timm"
    title = "timm"
    packages = ("timm",)
    file_name = "model.safetensors"
    precisions: ClassVar[Mapping[str, Tolerance]] = {"fp32": EXACT}

    def write(
        self, bundle: Bundle, folder: Path, metadata: dict[str, Any], images: Tensor, reference: ClassifierOutputs
    ) -> ClassifierOutputs:
        from rsft.inference.export.traceable import write_timm_weights

        return write_timm_weights(bundle, folder / self.file_name, metadata, images, reference)


@FORMATS.register
class PeftFormat(ExportFormat):
    """LoRA weights in the format of Hugging Face PEFT, with the head in a second file."""

    name = "peft"
    title = "Hugging Face PEFT"
    file_name = "adapter_model.safetensors"
    precisions: ClassVar[Mapping[str, Tolerance]] = {"fp32": EXACT}

    def write(
        self, bundle: Bundle, folder: Path, metadata: dict[str, Any], images: Tensor, reference: ClassifierOutputs
    ) -> ClassifierOutputs:
        from rsft.inference.export.traceable import write_peft_weights

        return write_peft_weights(bundle, folder, metadata, images)
