"""The processes of a run: precision, devices, start and communication.

In a run of one process nothing is sent.
"""

import ctypes
import logging
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn

from rsft.data.loading.batches import Batch
from rsft.errors import RequestError
from rsft.models.classifier import Classifier, copy_to_device
from rsft.peft.modules.adapter_module import transformer_blocks
from rsft.recipe.schema import Recipe, TrainSection
from rsft.types import Progress
from rsft.utils.precision_benchmark import fastest_precision, measure_speedups
from rsft.utils.progress import announce

_log = logging.getLogger(__name__)

HALF_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
"""Precision -> dtype of matrix products, for half precision."""


MAX_SLOWDOWN = 4.0
"""Largest factor by which a precision may be slower than float32 without
`train.allow_slow_precision`."""

_NOTICED_SLOWDOWN = 1.1


def resolve_precision(
    recipe: Recipe, device: torch.device, progress: Progress | None = None
) -> tuple[Recipe, dict[str, Any]]:
    """Replace the precision "auto" by the fastest one; reject one that is slow here.

    Of several processes, the first one measures; `launch_processes` gives its precision
    to the others.

    Returns:
        The recipe with its precision, and entries of run.json: "precision", and the
            measured "precision_speeds".

    Raises:
        RequestError: float16 without a GPU or with a second-order outer step, bfloat16
            with both a second-order outer step and sharded weights, or a precision that
            is more than `MAX_SLOWDOWN` times slower than float32.
    """
    precision = recipe.train.precision
    error = _precision_fault(recipe, device, precision)
    if error is not None:
        raise error
    if precision == "fp32" or not is_rank_zero():
        return recipe, {"precision": precision}
    announce(progress, "speed of this device")
    if precision != "auto":
        speedups = measure_speedups(device, [precision])
        _check_speed(recipe.train, device, speedups[precision])
        return recipe, {"precision": precision, "precision_speeds": speedups}
    usable = [
        name for name in HALF_DTYPES if _precision_fault(recipe, device, name) is None
    ]
    speedups = measure_speedups(device, usable)
    fastest = fastest_precision(speedups)
    train = recipe.train.model_copy(update={"precision": fastest})
    return recipe.model_copy(update={"train": train}), {
        "precision": fastest,
        "precision_speeds": speedups,
    }


def _precision_fault(
    recipe: Recipe, device: torch.device, precision: str
) -> RequestError | None:
    """Return why a run cannot use a precision; None if it can."""
    is_second_order = recipe.meta is not None and recipe.meta.order == 2
    if precision == "fp16" and device.type != "cuda":
        return RequestError(
            "fp16 needs a GPU",
            "train.precision",
            "use train.precision=auto, or bf16 or fp32",
        )
    if precision == "fp16" and is_second_order:
        message = (
            "float16 needs a scaled loss, and the unrolled step of a second-order"
            " gradient has none"
        )
        return RequestError(message, "train.precision", "use bf16 or fp32")
    if precision == "bf16" and is_second_order and recipe.train.strategy == "fsdp":
        message = (
            "a second-order step needs float32, and sharded weights stay in half"
            " precision"
        )
        return RequestError(
            message,
            "train.precision",
            "use train.precision=fp32, or train.strategy=ddp",
        )
    return None


def _check_speed(train: TrainSection, device: torch.device, speedup: float) -> None:
    """Warn of a precision that is slower than float32; reject a much slower one.

    Raises:
        RequestError: it is more than `MAX_SLOWDOWN` times slower, and the recipe does
            not allow it.
    """
    factor = 1 / speedup
    if factor <= _NOTICED_SLOWDOWN:
        return
    message = (
        f"a training step in {train.precision} takes {factor:.3g} times as long as in"
        f" float32 on this {device.type}"
    )
    hint = "train.precision=auto takes the fastest precision"
    if factor > MAX_SLOWDOWN and not train.allow_slow_precision:
        hint += "; train.allow_slow_precision=true trains with this one"
        raise RequestError(message, "train.precision", hint)
    _log.warning("%s; %s", message, hint)


@dataclass(frozen=True)
class Processes:
    """The processes of a run, as one of them sees them.

    Attributes:
        dtype: dtype of matrix products under autocast; None computes them in float32.
    """

    device: torch.device
    dtype: torch.dtype | None = None
    rank: int = 0
    world_size: int = 1

    def autocast(self) -> AbstractContextManager[Any]:
        """Return a context in which the network has the precision of the run."""
        if self.dtype is None:
            return nullcontext()
        return torch.autocast(self.device.type, self.dtype)

    def to_device(self, batch: Batch) -> Batch:
        """Return inputs (B, ...) and labels (B,) on the device of this process."""
        inputs, labels = batch
        return copy_to_device(inputs, self.device), copy_to_device(labels, self.device)


def launch_processes(train: TrainSection, device: torch.device) -> Processes:
    """Start the processes of a run, or join those that torchrun or SLURM started.

    All take the precision of the first.

    Lightning Fabric sets up devices and communication of several processes. It does not
    wrap the model: `DistributedDataParallel` would average gradients in the backward
    pass and wait for every parameter, although each loop updates only its own
    parameters, and it would miss gradients from `torch.autograd.grad`, such as those of
    gamma. The loops average gradients themselves (`average_gradients`). A run of one
    process does not import Lightning, which takes more than a second.

    Returns:
        The launched processes.
    """
    _keep_freed_memory()
    if train.devices * train.nodes == 1:
        if device.type == "cuda":
            device = torch.device(device.type, 0)
        return Processes(device, HALF_DTYPES.get(train.precision))
    from lightning.fabric import Fabric

    fabric = Fabric(
        accelerator=device.type,
        devices=train.devices,
        num_nodes=train.nodes,
        strategy="ddp",
    )
    fabric.launch()
    dtype = HALF_DTYPES.get(broadcast_object(train.precision))
    return Processes(fabric.device, dtype, fabric.global_rank, fabric.world_size)


def _keep_freed_memory() -> None:
    """Let the C library of Linux keep what a step frees for the next one.

    To give memory back and to take it again costs a small network a tenth of its time.
    """
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "mallopt"):
        library.mallopt(-1, 1 << 30)  # M_TRIM_THRESHOLD: free bytes that are kept
        # M_MMAP_THRESHOLD: larger blocks are given back; this is the largest value
        library.mallopt(-3, 1 << 25)


def require_consistent_processes(train: TrainSection) -> None:
    """Raise an error if the keys on processes do not agree with what was started.

    Raises:
        RequestError: they contradict each other, or the number of processes that
            torchrun or SLURM started.
    """
    world_size = started = train.devices * train.nodes
    if torch.distributed.is_torchelastic_launched():
        started = int(os.environ["WORLD_SIZE"])
    elif "SLURM_NTASKS" in os.environ:
        from lightning.fabric.plugins.environments.slurm import SLURMEnvironment

        # no interactive shell
        if SLURMEnvironment.detect():
            started = int(os.environ["SLURM_NTASKS"])
    if started != world_size:
        message = (
            f"{started} processes were started, but the recipe asks for {world_size}"
        )
        raise RequestError(
            message,
            "train.devices, train.nodes",
            (
                "set train.devices to the number on one machine and train.nodes to the"
                " number of machines"
            ),
        )
    if train.batch_size % world_size:
        message = (
            f"a batch of {train.batch_size} chips cannot be shared by {world_size}"
            " processes"
        )
        raise RequestError(
            message, "train.batch_size", f"choose a multiple of {world_size}"
        )
    if world_size == 1 and train.strategy == "fsdp":
        message = "sharding needs more than one process"
        raise RequestError(
            message,
            "train.strategy",
            "increase train.devices, or use train.strategy=auto",
        )


def shard_frozen_blocks(classifier: Classifier) -> None:
    """Shard the blocks of a classifier over the processes (FSDP 2).

    Learned parameters are not sharded. Blocks run without the memory-efficient kernels.
    """
    from torch.distributed.fsdp import fully_shard

    learned = {
        *classifier.adapted.additive.parameters(),
        *classifier.head.parameters(),
        *classifier.adapted.gamma,
    }
    for block in transformer_blocks(classifier.adapted.vit):
        fully_shard(block, ignored_params=learned)


T = TypeVar("T")

_RANK_VARIABLES = ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID")
"""Environment variables for ranks, of torchrun, of Lightning and of SLURM."""


def is_rank_zero() -> bool:
    """Return whether this process writes files, also before it has connected."""
    if _is_distributed():
        return distributed.get_rank() == 0
    # SLURM sets its variables also for a single task
    has_slurm_ranks = int(os.environ.get("SLURM_NTASKS", "1")) > 1
    names = [
        name
        for name in _RANK_VARIABLES
        if has_slurm_ranks or not name.startswith("SLURM")
    ]
    return all(os.environ.get(name, "0") == "0" for name in names)


def all_reduce_mean(value: Tensor) -> Tensor:
    """Return the mean of a tensor over the processes, detached from the graph."""
    value = value.detach()
    if _is_distributed():
        value = value.clone()
        distributed.all_reduce(value)
        value /= distributed.get_world_size()
    return value


def all_reduce_max(value: int, device: torch.device) -> int:
    """Return the largest value of all processes, exchanged on a device."""
    if not _is_distributed():
        return value
    largest = torch.tensor(value, device=device)
    distributed.all_reduce(largest, distributed.ReduceOp.MAX)
    return int(largest)


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace every gradient by its mean over the processes, with one message."""
    gradients = [
        parameter.grad for parameter in parameters if parameter.grad is not None
    ]
    if _is_distributed() and gradients:
        means = all_reduce_mean(
            torch.cat([gradient.flatten() for gradient in gradients])
        )
        sizes = [gradient.numel() for gradient in gradients]
        for gradient, values in zip(gradients, torch.split(means, sizes), strict=True):
            gradient.copy_(values.view_as(gradient))


def average_statistics(network: nn.Module) -> None:
    """Replace the statistics of batch norms in training by their means."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d) and module.training:
            for statistic in (
                module.get_buffer("running_mean"),
                module.get_buffer("running_var"),
            ):
                statistic.copy_(all_reduce_mean(statistic))


def all_gather_object(value: Any) -> list[Any]:
    """Return the values of all processes, in the order of ranks."""
    if not _is_distributed():
        return [value]
    values: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(values, value)
    return values


def broadcast_object(value: T) -> T:
    """Return the value of rank zero, which pickle can store."""
    if not _is_distributed():
        return value
    values = [value]
    distributed.broadcast_object_list(values)
    return values[0]


_IS_ALONE = ContextVar("is_alone", default=False)


@contextmanager
def without_others() -> Iterator[None]:
    """Exchange nothing with other processes within the block.

    Yields:
        None.
    """
    token = _IS_ALONE.set(True)
    try:
        yield
    finally:
        _IS_ALONE.reset(token)


def _is_distributed() -> bool:
    return (
        not _IS_ALONE.get()
        and distributed.is_available()
        and distributed.is_initialized()
    )
