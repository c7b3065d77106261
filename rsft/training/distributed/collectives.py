"""Communication between the processes of a run. In a run of one process nothing is sent."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn

T = TypeVar("T")

_RANK_VARIABLES = ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID")
"""Environment variables for ranks, of torchrun, of Lightning and of SLURM."""


def is_rank_zero() -> bool:
    """Return whether this process writes files and prints, also before the processes have connected."""
    if _is_distributed():
        return distributed.get_rank() == 0
    return all(os.environ.get(name, "0") == "0" for name in _RANK_VARIABLES if _states_rank(name))


def all_reduce_mean(value: Tensor) -> Tensor:
    """Return the mean of a tensor over the processes.

    Args:
        value: a tensor of any shape.

    Returns:
        The mean, of the same shape, detached from the graph.
    """
    value = value.detach()
    if _is_distributed():
        value = value.clone()
        distributed.all_reduce(value)
        value /= distributed.get_world_size()
    return value


def all_reduce_max(value: int, device: torch.device) -> int:
    """Return the largest value of all processes.

    Args:
        value: the value of this process.
        device: the device of this process, on which NCCL exchanges tensors.
    """
    if not _is_distributed():
        return value
    largest = torch.tensor(value, device=device)
    distributed.all_reduce(largest, distributed.ReduceOp.MAX)
    return int(largest)


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace every gradient by its mean over the processes, with one message for all gradients.

    Args:
        parameters: the parameters; those without a gradient are ignored.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if _is_distributed() and gradients:
        means = all_reduce_mean(torch.cat([gradient.flatten() for gradient in gradients]))
        sizes = [gradient.numel() for gradient in gradients]
        for gradient, values in zip(gradients, torch.split(means, sizes), strict=True):
            gradient.copy_(values.view_as(gradient))


def all_gather_object(value: Any) -> list[Any]:
    """Return the values of all processes.

    Args:
        value: the value of this process, which pickle can store.

    Returns:
        One value per process, in the order of ranks.
    """
    if not _is_distributed():
        return [value]
    values: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(values, value)
    return values


def broadcast_object(value: T) -> T:
    """Return the value of rank zero.

    Args:
        value: the value of this process, which pickle can store.
    """
    if not _is_distributed():
        return value
    values = [value]
    distributed.broadcast_object_list(values)
    return values[0]


def _is_distributed() -> bool:
    return distributed.is_available() and distributed.is_initialized()


def _states_rank(name: str) -> bool:
    """Return whether a variable states a rank. SLURM sets its variables in every shell, also for a single task."""
    return not name.startswith("SLURM") or int(os.environ.get("SLURM_NTASKS", "1")) > 1
