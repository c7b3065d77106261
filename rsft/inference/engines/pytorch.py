"""The engine PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from rsft.inference.engines import base
from rsft.inference.engines.base import EngineSpec, LoadedEngine, Tolerance

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rsft.models.bundle.bundle import Bundle
    from rsft.models.classifier import SupportsPredict


@base.ENGINES.register
class TorchEngine(base.DirectEngine):
    """PyTorch with PEFT modules merged into the backbone."""

    name = "torch"
    title = "PyTorch"
    packages = ("torch",)
    devices = ("cpu", "cuda")
    precisions: ClassVar[Mapping[str, Tolerance]] = {
        "fp32": base.EXACT,
        "bf16": base.ROUNDED,
    }

    def load(self, bundle: Bundle, spec: EngineSpec, device: str) -> LoadedEngine:
        import numpy as np
        import torch

        from rsft.data.loading.byte_images import ByteImages
        from rsft.inference.engines.traceable import BFloat16Network, build_network
        from rsft.models.averaging import with_tta
        from rsft.models.devices import choose_device, copy_to_device, move_network
        from rsft.models.loading import load_classifier
        from rsft.models.outputs import ClassifierOutputs

        target = choose_device(device)
        network: SupportsPredict
        if spec.precision == "bf16":
            network = move_network(BFloat16Network(build_network(bundle)), target)
        else:
            network = load_classifier(bundle, device)
        model, contract = with_tta(network, bundle.contract, bundle.recipe.evaluate)

        @torch.inference_mode()
        def infer(images: NDArray[Any]) -> ClassifierOutputs:
            size = base.CPU_BATCH_SIZE if target.type == "cpu" else len(images)
            outputs = []
            for batch in torch.split(torch.from_numpy(images), size):
                is_raw = batch.dtype == torch.uint8
                inputs = ByteImages(batch, contract) if is_raw else batch
                tensors = model.predict(copy_to_device(inputs, target))
                outputs.append([tensor.float().cpu().numpy() for tensor in tensors])
            return ClassifierOutputs(*map(np.concatenate, zip(*outputs, strict=True)))

        return LoadedEngine(infer, contract, spec, takes_bytes=target.type != "cpu")
