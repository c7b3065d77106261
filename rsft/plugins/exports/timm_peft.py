"""The export formats of timm and of Hugging Face PEFT."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from rsft.inference.engines import base
from rsft.inference.engines.base import ExportFormat
from rsft.types import JsonObject

if TYPE_CHECKING:
    from torch import Tensor

    from rsft.models.bundle.bundle import Bundle
    from rsft.models.outputs import ClassifierOutputs


class TimmFormat(ExportFormat):
    """Merged network and head in timm's layout for the Hugging Face Hub."""

    name = "timm"
    title = "timm"
    packages = ("timm",)
    file_name = "model.safetensors"
    precisions: ClassVar = {"fp32": base.SAME_NETWORK}

    def write(
        self,
        bundle: Bundle,
        folder: Path,
        metadata: JsonObject,
        images: Tensor,
    ) -> ClassifierOutputs:
        from rsft.plugins.exports.weights import write_timm_weights

        return write_timm_weights(bundle, folder, metadata, images)


class PeftFormat(ExportFormat):
    """LoRA weights in the format of PEFT, with the head in a second file."""

    name = "peft"
    title = "Hugging Face PEFT"
    file_name = "adapter_model.safetensors"
    precisions: ClassVar = {"fp32": base.EXACT}

    def write(
        self,
        bundle: Bundle,
        folder: Path,
        metadata: JsonObject,
        images: Tensor,
    ) -> ClassifierOutputs:
        from rsft.plugins.exports.weights import write_peft_weights

        return write_peft_weights(bundle, folder, metadata, images)
