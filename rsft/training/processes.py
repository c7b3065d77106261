"""The processes of a run: devices, start and communication.

In a run of one process nothing is sent.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn

from rsft.data.loading.samplers import SINGLE_PROCESS, ProcessShard
from rsft.errors import RequestError
from rsft.models.classifier import Classifier
from rsft.peft.modules.adapter_module import transformer_blocks
from rsft.recipe.schema import TrainSection
from rsft.utils.memory import retain_freed_memory

HALF_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
"""Precision -> dtype of matrix products, for half precision."""


def launch_processes(
    train: TrainSection, device: torch.device
) -> tuple[torch.device, ProcessShard]:
    """Start the processes of a run, or join those that torchrun or SLURM started.

    Lightning Fabric sets up devices and communication of several processes. It does not
    wrap the model: `DistributedDataParallel` would average gradients in the backward
    pass and wait for every parameter, although each loop updates only its own
    parameters, and it would miss gradients from `torch.autograd.grad`, such as those of
    gamma. The loops average gradients themselves (`average_gradients`). A run of one
    process does not import Lightning, which takes more than a second.

    Returns:
        The device of this process, and its share of each batch.
    """
    retain_freed_memory()
    if train.devices * train.nodes == 1:
        if device.type == "cuda":
            device = torch.device(device.type, 0)
        return device, SINGLE_PROCESS
    from lightning.fabric import Fabric

    fabric = Fabric(
        accelerator=device.type,
        devices=train.devices,
        num_nodes=train.nodes,
        strategy="ddp",
    )
    fabric.launch()
    return fabric.device, (fabric.global_rank, fabric.world_size)


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
    values = [None] * distributed.get_world_size()
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
