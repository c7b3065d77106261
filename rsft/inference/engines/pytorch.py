"""The engine PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from rsft.inference.engines import base
from rsft.inference.engines.base import EngineModel, EngineSpec, Tolerance
from rsft.inference.engines.graph import GraphModel, as_inference_fn

if TYPE_CHECKING:
    from rsft.models.bundle.bundle import Bundle


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
    unsupported: ClassVar[Mapping[str, str]] = {
        "int8": "rsft does not quantize PyTorch networks"
    }

    def load(self, bundle: Bundle, spec: EngineSpec, device: str) -> EngineModel:
        from rsft.inference.engines.traceable import BFloat16Network, build_network
        from rsft.models.devices import choose_device, move_network
        from rsft.models.loading import load_classifier

        chosen_device = choose_device(device)
        batch_size = base.CPU_BATCH_SIZE if chosen_device.type == "cpu" else None
        if spec.precision == "fp32":
            model = load_classifier(bundle, device)
            return EngineModel(model, spec, chosen_device, batch_size)
        network = move_network(BFloat16Network(build_network(bundle)), chosen_device)
        rounded = GraphModel(as_inference_fn(network, chosen_device))
        return EngineModel(rounded, spec, batch_size=batch_size)
