"""The engine PyTorch, and the export formats of torch.export, timm and Hugging Face PEFT."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import TYPE_CHECKING, Any, ClassVar

from rsft.inference.engines.base import (
    CPU_BATCH_SIZE,
    ENGINES,
    EXACT,
    FORMATS,
    ROUNDED,
    DirectEngine,
    EngineModel,
    EngineSpec,
    ExportFormat,
    InferenceFn,
    Tolerance,
)
from rsft.inference.engines.graph import GraphFormat, GraphModel, as_inference_fn, run_in_threads

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from torch import Tensor
    from torch.export import ExportedProgram

    from rsft.inference.export.traceable import BFloat16Network, TraceableNetwork
    from rsft.models.bundle.bundle import Bundle
    from rsft.models.outputs import ClassifierOutputs


@ENGINES.register
class TorchEngine(DirectEngine):
    """PyTorch with PEFT modules merged into the backbone."""

    name = "torch"
    title = "PyTorch"
    packages = ("torch",)
    devices = ("cpu", "cuda")
    precisions: ClassVar[Mapping[str, Tolerance]] = {"fp32": EXACT, "bf16": ROUNDED}
    unsupported: ClassVar[Mapping[str, str]] = {"int8": "rsft does not quantize PyTorch networks"}

    def spec(self, precision: str) -> EngineSpec:
        """Return the options of a request: bfloat16 is compiled if possible."""
        return EngineSpec(self.name, precision, compiled=precision == "bf16")

    def candidates(self, device_type: str) -> list[EngineSpec]:
        """Return float32 and bfloat16, and on a CPU with a C++ compiler also compiled bfloat16."""
        compiled = [EngineSpec(self.name, "bf16", compiled=True)]
        return super().candidates(device_type) + (compiled if device_type == "cpu" and find_cxx_compiler() else [])

    def load(self, bundle: Bundle, spec: EngineSpec, device: str) -> EngineModel:
        from rsft.models.classifier import choose_device, load_classifier

        if spec.precision == "bf16":
            return _load_bfloat16(bundle, spec, choose_device(device))
        model = load_classifier(bundle, device)
        model_device = next(model.parameters()).device
        return EngineModel(model, spec, model_device, _batch_size(model_device))


@FORMATS.register
class TorchExportFormat(GraphFormat):
    """Graph that `torch.export.load` opens without rsft."""

    name = "torch-export"
    title = "torch.export"
    packages = ("torch",)
    file_name = "model.pt2"
    precisions: ClassVar[Mapping[str, Tolerance]] = {"fp32": EXACT, "bf16": ROUNDED}
    unsupported: ClassVar[Mapping[str, str]] = {"int8": "rsft does not quantize torch.export graphs"}

    def build_network(self, bundle: Bundle, precision: str) -> TraceableNetwork | BFloat16Network:
        from rsft.inference.export.traceable import BFloat16Network, build_network

        network = build_network(bundle)
        return BFloat16Network(network) if precision == "bf16" else network

    def write_graph(self, program: ExportedProgram, folder: Path, metadata: Mapping[str, Any]) -> None:
        import torch

        torch.export.save(program, folder / self.file_name, extra_files={"rsft.json": json.dumps(metadata)})

    def open_graph(self, path: Path, precision: str) -> GraphModel:
        import torch

        return GraphModel(as_inference_fn(torch.export.load(path).module()))


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


def find_cxx_compiler() -> str | None:
    """Return the path of the C++ compiler that torch.compile would call; None if none is installed."""
    return next(filter(None, map(shutil.which, (os.environ.get("CXX", "g++"), "g++", "clang++"))), None)


def _batch_size(device: torch.device) -> int | None:
    return CPU_BATCH_SIZE if device.type == "cpu" else None


def _load_bfloat16(bundle: Bundle, spec: EngineSpec, device: torch.device) -> EngineModel:
    """Load the network in bfloat16. It is compiled if requested, on a CPU with a C++ compiler."""
    from rsft.inference.export.traceable import BFloat16Network, build_network
    from rsft.models.classifier import move_network

    note = ""
    if spec.compiled and device.type == "cpu":
        try:
            model = _compile(bundle)
            return EngineModel(model, spec, concurrency=model.concurrency)
        except Exception as error:  # of any kind: the network also runs without the compiler
            note = f"not compiled: {(str(error).strip() or type(error).__name__).splitlines()[0][:200]}"
    module = move_network(BFloat16Network(build_network(bundle)), device)
    model = GraphModel(as_inference_fn(module, device))
    return EngineModel(model, spec._replace(compiled=False), batch_size=_batch_size(device), note=note)


def _compile(bundle: Bundle) -> GraphModel:
    """Compile with frozen weights, so that the compiler can rearrange them for matrix products and fuse layers."""
    if find_cxx_compiler() is None:
        raise RuntimeError("no C++ compiler is installed")
    import numpy as np
    import torch
    from torch._inductor import config as inductor  # takes a second

    from rsft.inference.export.traceable import BFloat16Network, build_network

    module: Any = BFloat16Network(build_network(bundle), products=True)
    pool, side = _make_single_core_pool(), bundle.contract.size
    share = -(-CPU_BATCH_SIZE // torch.get_num_threads())
    infer = _pad_batches(as_inference_fn(torch.compile(module, dynamic=False)), share)
    # the compiler reads `freezing` at the first call; as an option of torch.compile it has no effect
    first_call = inductor.patch(freezing=True)(infer)
    pool.submit(first_call, np.zeros((share, len(bundle.contract.planes), side, side), np.float32)).result()
    return run_in_threads(infer, pool)


def _make_single_core_pool() -> ThreadPoolExecutor:
    """Return a pool of as many threads as PyTorch uses. Each uses one core; other threads still use all cores."""
    import torch

    threads = torch.get_num_threads()
    all_started = Barrier(threads)

    def start() -> None:
        torch.set_num_threads(1)  # applies to this thread, and to threads that start later
        torch.get_num_threads()  # without this call, the thread would use the number that any thread set last
        all_started.wait()

    pool = ThreadPoolExecutor(threads, "engine", initializer=start)
    list(pool.map(abs, range(threads)))
    torch.set_num_threads(threads)
    return pool


def _pad_batches(infer: InferenceFn, size: int) -> InferenceFn:
    """Pad every batch to `size` images, so that only one size is compiled."""
    import numpy as np

    from rsft.models.outputs import ClassifierOutputs

    def infer_padded(images: NDArray[Any]) -> ClassifierOutputs:
        padding = [(0, size - len(images)), *[(0, 0)] * (images.ndim - 1)]
        logits, features = infer(np.pad(images, padding))
        return ClassifierOutputs(logits[: len(images)], features[: len(images)])

    return infer_padded
