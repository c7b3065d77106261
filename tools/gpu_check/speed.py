"""Time training steps of rsft, Hugging Face PEFT and full fine-tuning, and prediction."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from tools.benchmarks.peft_row import (
    Batch,
    Step,
    attach_lora,
    hugging_face_step,
    rsft_step,
    training_step,
)
from tools.gpu_check.equality import make_adapted
from tools.gpu_check.rows import NotRunError
from tools.gpu_check.sizes import CLASSES, Network

TRAINING_COLUMNS = (
    "step in bfloat16",
    "images/s",
    "ms",
    "MiB above float32 weights",
    "MFU, %",
)
PREDICTION_COLUMNS = ("prediction", "images/s", "ms", "difference to float32")
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
    if find_spec("peft") is None:
        raise NotRunError("the package peft is not installed")
    return hugging_face_step(vit, batch, use_bf16=True)


def compiled_step(vit: nn.Module, batch: Batch) -> Step:
    """Return a training step of LoRA with compiled blocks.

    Args:
        vit: the network.
        batch: images and labels.

    Returns:
        A function that runs the step.

    Raises:
        NotRunError: the blocks cannot be compiled.
    """
    adapted, learned = attach_lora(vit)
    adapted.cast_frozen_weights().compile_blocks()
    step = training_step(adapted, learned, batch, use_bf16=True)
    step()
    if adapted.compile_error:
        raise NotRunError(adapted.compile_error)
    return step


KINDS = {
    "full fine-tuning": TrainingKind(full_step, 3),
    "LoRA, Hugging Face PEFT": TrainingKind(_peft_step, 2),
    "LoRA, rsft, plain autograd": TrainingKind(
        lambda vit, batch: rsft_step(vit, batch, True, kernels=False), 2
    ),
    "LoRA, rsft, plain autograd, compiled": TrainingKind(compiled_step, 2),
    "LoRA, rsft, kernels": TrainingKind(
        lambda vit, batch: rsft_step(vit, batch, True, kernels=True), 2
    ),
    "LoRA with learned scales, rsft, plain autograd": TrainingKind(
        lambda vit, batch: rsft_step(
            vit, batch, True, learn_scales=True, kernels=False
        ),
        2,
    ),
}
"""Printed name -> kind of step."""


def measure_training(
    network: Network, kind: TrainingKind, device: torch.device, steps: int, rate: float
) -> tuple[str, ...]:
    """Time training steps in bfloat16.

    Args:
        network: the network.
        kind: the kind of step.
        device: where to train.
        steps: number of timed steps.
        rate: operations per second of large matrix products, from `matmul_rate`.

    Returns:
        Images per second, milliseconds, peak memory above the float32 weights in MiB
        (of a GPU), and the share of `rate` that the operations of the network reach.
    """
    vit = network.build(device)
    labels = torch.arange(network.batch) % CLASSES
    weights = sum(parameter.nbytes for parameter in vit.parameters())
    step = kind.build(vit, Batch(network.images(device), labels.to(device)))
    seconds = time_steps(step, device, steps)
    if device.type == "cuda":
        memory = f"{(torch.cuda.max_memory_allocated() - weights) / 2**20:,.0f}"
    else:
        memory = "-"
    images = network.batch / seconds
    share = images * kind.passes * forward_operations(network) / rate
    return f"{images:,.1f}", f"{1000 * seconds:.1f}", memory, f"{100 * share:.1f}"


def measure_prediction(
    network: Network, device: torch.device, steps: int, *, bf16: bool, compiled: bool
) -> tuple[str, ...]:
    """Time forward passes of a network with merged LoRA.

    Args:
        network: the network.
        device: where to predict.
        steps: number of timed passes.
        bf16: compute in bfloat16.
        compiled: compile the network for the size of the batch.

    Returns:
        Images per second, milliseconds, and the relative difference to the outputs in
        float32.
    """
    vit = make_adapted(network, device).merge().eval()
    images = network.images(device)
    with torch.inference_mode():
        exact = vit(images)
    if bf16:
        vit = vit.bfloat16()
        images = images.bfloat16()
    infer: Any = torch.compile(vit, dynamic=False) if compiled else vit

    @torch.inference_mode()
    def predict() -> Tensor:
        outputs: Tensor = infer(images)
        return outputs

    seconds = time_steps(predict, device, steps)
    difference = float((predict().float() - exact).norm() / exact.norm())
    return (
        f"{network.batch / seconds:,.1f}",
        f"{1000 * seconds:.2f}",
        f"{difference:.1e}",
    )


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
    _wait(device)
    start = time.perf_counter()
    for _ in range(steps):
        step()
    _wait(device)
    return (time.perf_counter() - start) / steps


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


def forward_operations(network: Network) -> float:
    """Return the operations of a forward pass of one image, counted without computing it.

    Args:
        network: the network.
    """
    images = torch.empty(1, 3, network.side, network.side, device="meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.build("meta").eval()(images)
    return float(counter.get_total_flops())


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()
