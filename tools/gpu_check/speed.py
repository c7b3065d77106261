"""Time training steps of rsft, Hugging Face PEFT and full fine-tuning, and prediction."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from functools import cache, partial
from importlib.util import find_spec
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from rsft.errors import RequestError
from tools.benchmarks.peft_row import (
    Batch,
    Step,
    attach_lora,
    hugging_face_model,
    hugging_face_step,
    rsft_step,
    training_step,
)
from tools.gpu_check.equality import (
    DIFFERENCE,
    make_adapted,
    relative_difference,
)
from tools.gpu_check.rows import Figure, NotRunError, Task
from tools.gpu_check.sizes import CLASSES, Network, Sizes

PEER = "LoRA, Hugging Face PEFT"
MERGED_PEER = "LoRA merged, Hugging Face PEFT, float32"
WARM_UP = 3


class TrainingKind(NamedTuple):
    """A kind of training step.

    Attributes:
        build: returns the step of a network on a batch.
        passes: operations of the step, in forward passes: LoRA needs no gradients of
            frozen weights.
    """

    build: Callable[[nn.Module, Batch], Step]
    passes: int


def full_step(vit: nn.Module, batch: Batch) -> Step:
    """Return a step that trains all weights.

    Args:
        vit: the network.
        batch: images and labels.

    Returns:
        A function that runs the step.
    """
    return training_step(vit, vit.parameters(), batch, use_bf16=True)


def _peft_step(vit: nn.Module, batch: Batch) -> Step:
    require_peft()
    return hugging_face_step(vit, batch, use_bf16=True)


def require_peft() -> None:
    """Raise an error if the peer is missing.

    Raises:
        NotRunError: the package peft is not installed.
    """
    if find_spec("peft") is None:
        raise NotRunError("the package peft is not installed")


def compiled_step(
    vit: nn.Module, batch: Batch, compiler: str, learn_scales: bool = False
) -> Step:
    """Return a training step of LoRA with compiled blocks.

    Args:
        vit: the network.
        batch: images and labels.
        compiler: backend of `torch.compile`.
        learn_scales: with a modulator.

    Returns:
        A function that runs the step.

    Raises:
        NotRunError: the blocks cannot be compiled.
    """
    adapted, learned = attach_lora(vit, learn_scales)
    adapted.cast_frozen_weights().compile_blocks(compiler)
    step = training_step(adapted, learned, batch, use_bf16=True)
    try:
        step()
    except RequestError as error:
        raise NotRunError(error.message) from error
    return step


def training_kinds(compiler: str) -> dict[str, TrainingKind]:
    """Return the kinds of steps by name: the peer first, compiled ones last."""
    plain = partial(rsft_step, use_bf16=True, kernels=False)
    kernels = partial(rsft_step, use_bf16=True, kernels=True)
    compiled = partial(compiled_step, compiler=compiler)
    return {
        PEER: TrainingKind(_peft_step, 2),
        "full fine-tuning": TrainingKind(full_step, 3),
        "LoRA": TrainingKind(plain, 2),
        "MetaLoRA, inner step": TrainingKind(partial(plain, learn_scales=True), 2),
        "LoRA, CPU kernels": TrainingKind(kernels, 2),
        "LoRA, compiled": TrainingKind(compiled, 2),
        "MetaLoRA, inner step, compiled": TrainingKind(
            partial(compiled, learn_scales=True), 2
        ),
    }


def training_tasks(sizes: Sizes, device: torch.device) -> list[Task]:
    """Return one task per network and kind of step."""
    tasks = []
    for network in sizes.trained:
        prefix = f"{network.title}, batch {network.batch}"
        for name, kind in training_kinds(sizes.compiler).items():
            run = partial(measure_training, network, kind, device, sizes)
            peer = "" if name == PEER else f"{prefix}, {PEER}"
            tasks.append(Task("training", f"{prefix}, {name}", run, peer))
    return tasks


def prediction_tasks(sizes: Sizes, device: torch.device) -> list[Task]:
    """Return one task per precision, with and without a compiler, after the peer."""
    network = sizes.predicted
    prefix = f"{network.title}, batch {network.batch}"
    measure = partial(measure_prediction, network, device, sizes)
    peer = f"{prefix}, {MERGED_PEER}"
    run = partial(measure, merged_by_peft, bf16=False, compiled=False)
    tasks = [Task("prediction", peer, run)]
    for compiled in (False, True):
        for bf16 in (False, True):
            run = partial(measure, merged_by_rsft, bf16=bf16, compiled=compiled)
            name = f"{prefix}, LoRA merged, {'bfloat16' if bf16 else 'float32'}"
            if compiled:
                name += ", compiled"
            tasks.append(Task("prediction", name, run, peer))
    return tasks


def measure_training(
    network: Network, kind: TrainingKind, device: torch.device, sizes: Sizes
) -> list[Figure]:
    """Time training steps in bfloat16.

    Args:
        network: the network.
        kind: the kind of step.
        device: where to train.
        sizes: steps, and side of the matrix product.

    Returns:
        Images per second, milliseconds, the share of the rate of a large matrix product
        that the operations of the network reach, and on CUDA the peak memory above the
        float32 weights.
    """
    vit = network.build(device)
    labels = torch.arange(network.batch) % CLASSES
    weights = sum(parameter.nbytes for parameter in vit.parameters())
    step = kind.build(vit, Batch(network.images(device), labels.to(device)))
    seconds = time_steps(step, device, sizes.steps)
    images = network.batch / seconds
    operations = images * kind.passes * forward_operations(network)
    rate = matmul_rate(device, sizes.product_side)
    figures = [
        Figure(images, "images/s"),
        Figure(1000 * seconds, "ms per step"),
        Figure(100 * operations / rate, "% of a matrix product's rate"),
    ]
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated() - weights
        figures.append(Figure(peak / 2**20, "MiB above the weights"))
    return figures


def merged_by_rsft(network: Network, device: torch.device) -> nn.Module:
    """Return the network with LoRA merged into its weights by rsft."""
    return make_adapted(network, device).merge().eval()


def merged_by_peft(network: Network, device: torch.device) -> nn.Module:
    """Return the network with LoRA merged into its weights by Hugging Face PEFT."""
    require_peft()
    model = hugging_face_model(network.build(device))
    return cast(nn.Module, cast(Any, model).merge_and_unload()).eval()


def measure_prediction(
    network: Network,
    device: torch.device,
    sizes: Sizes,
    build: Callable[[Network, torch.device], nn.Module],
    *,
    bf16: bool,
    compiled: bool,
) -> list[Figure]:
    """Time forward passes of a network with merged LoRA.

    Args:
        network: the network.
        device: where to predict.
        sizes: steps and compiler.
        build: returns the network.
        bf16: compute in bfloat16.
        compiled: compile the network for the size of the batch.

    Returns:
        Images per second, milliseconds, and the relative difference to the outputs in
        float32 without a compiler.
    """
    vit = build(network, device)
    images = network.images(device)
    with torch.inference_mode():
        exact = vit(images)
    if bf16:
        vit = vit.bfloat16()
        images = images.bfloat16()
    infer: Any = vit
    if compiled:
        infer = torch.compile(vit, dynamic=False, backend=sizes.compiler)

    @torch.inference_mode()
    def predict() -> Tensor:
        outputs: Tensor = infer(images)
        return outputs

    seconds = time_steps(predict, device, sizes.steps)
    difference = relative_difference(predict().float(), exact)
    return [
        Figure(network.batch / seconds, "images/s"),
        Figure(1000 * seconds, "ms per batch"),
        Figure(difference, DIFFERENCE, limit=0.05),
    ]


def time_steps(step: Step, device: torch.device, steps: int) -> float:
    """Return the mean seconds of a step after warm-up steps, and reset the peak memory of a GPU before them.

    Args:
        step: the step.
        device: where it computes.
        steps: number of timed steps.
    """
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    for _ in range(WARM_UP):
        step()
    wait_for(device)
    start = time.perf_counter()
    for _ in range(steps):
        step()
    wait_for(device)
    return (time.perf_counter() - start) / steps


@cache
def matmul_rate(device: torch.device, size: int) -> float:
    """Return the operations per second of a product of two square matrices in bfloat16.

    Args:
        device: where to multiply.
        size: rows and columns of the matrices.
    """
    left, right = (
        torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2)
    )
    return 2 * size**3 / time_steps(lambda: left @ right, device, 10)


@cache
def forward_operations(network: Network) -> float:
    """Return the operations of a forward pass of one image, counted without computing it.

    Args:
        network: the network.
    """
    images = torch.empty(1, 3, network.side, network.side, device="meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.build("meta").eval()(images)
    return float(counter.get_total_flops())


def wait_for(device: torch.device) -> None:
    """Wait until the device has computed all that it was given."""
    if device.type != "cpu":
        torch.get_device_module(device).synchronize()
