"""The engine PyTorch."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TYPE_CHECKING, Any, ClassVar

from rsft.inference.engines import base
from rsft.inference.engines.base import EngineModel, EngineSpec, Tolerance
from rsft.inference.engines.graph import (
    GraphModel,
    as_inference_fn,
    run_in_threads,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rsft.models.bundle.bundle import Bundle
    from rsft.models.outputs import ClassifierOutputs


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

    def spec(self, precision: str) -> EngineSpec:
        return EngineSpec(self.name, precision, compiled=precision == "bf16")

    def load(self, bundle: Bundle, spec: EngineSpec, device: str) -> EngineModel:
        from rsft.inference.engines.traceable import BFloat16Network, build_network
        from rsft.models.devices import choose_device, move_network
        from rsft.models.loading import load_classifier

        chosen_device = choose_device(device)
        note = ""
        if chosen_device.type == "cpu":
            batch_size = base.CPU_BATCH_SIZE
        else:
            batch_size = None
        if spec.precision == "fp32":
            return EngineModel(
                load_classifier(bundle, device), spec, chosen_device, batch_size
            )
        if spec.compiled and chosen_device.type == "cpu":
            try:
                model = _compile(bundle)
                return EngineModel(model, spec, concurrency=model.concurrency)
            # errors of torch's compilers, and of the folder for what they compile: the
            # network also runs without them
            except (RuntimeError, OSError) as error:
                note = f"not compiled: {base.first_line(error)}"
        network = move_network(BFloat16Network(build_network(bundle)), chosen_device)
        model = GraphModel(as_inference_fn(network, chosen_device))
        return EngineModel(
            model, spec._replace(compiled=False), batch_size=batch_size, note=note
        )


def find_cxx_compiler() -> str | None:
    """Return the C++ compiler that torch.compile would call, or None."""
    return next(
        filter(
            None, map(shutil.which, (os.environ.get("CXX", "g++"), "g++", "clang++"))
        ),
        None,
    )


def _compile(bundle: Bundle) -> GraphModel:
    """Compile with frozen weights.

    The compiler can then rearrange them for matrix products and fuse layers.
    """
    if find_cxx_compiler() is None:
        raise RuntimeError("no C++ compiler is installed")
    import numpy as np
    import torch
    from torch._inductor import config as inductor  # takes a second

    from rsft.inference.engines.traceable import BFloat16Network, build_network
    from rsft.models.outputs import ClassifierOutputs

    module: Any = BFloat16Network(build_network(bundle), products=True)
    pool = _make_single_core_pool()
    side = bundle.contract.size
    share = -(-base.CPU_BATCH_SIZE // torch.get_num_threads())
    compiled = as_inference_fn(torch.compile(module, dynamic=False))

    def infer(images: NDArray[Any]) -> ClassifierOutputs:
        """Pad the images to `share`, so that only one size is compiled."""
        padding = [(0, share - len(images)), *[(0, 0)] * (images.ndim - 1)]
        logits, features = compiled(np.pad(images, padding))
        return ClassifierOutputs(logits[: len(images)], features[: len(images)])

    # the compiler reads `freezing` at the first call; as an option of torch.compile it
    # has no effect
    first_call = inductor.patch(freezing=True)(infer)
    pool.submit(
        first_call,
        np.zeros((share, len(bundle.contract.planes), side, side), np.float32),
    ).result()
    return run_in_threads(infer, pool, share)


def _make_single_core_pool() -> ThreadPoolExecutor:
    """Return a pool of as many threads as PyTorch uses.

    Each uses one core; other threads still use all cores.
    """
    import torch

    threads = torch.get_num_threads()
    all_started = Barrier(threads)

    def start() -> None:
        # applies to this thread, and to threads that start later
        torch.set_num_threads(1)
        # without this call, the thread would use the number that any thread set last
        torch.get_num_threads()
        all_started.wait()

    pool = ThreadPoolExecutor(threads, "engine", initializer=start)
    list(pool.map(abs, range(threads)))
    torch.set_num_threads(threads)
    return pool
