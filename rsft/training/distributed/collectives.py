"""Communication between the processes of a run. In a run of one process every function is the identity."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, distributed, nn

_RANK_VARIABLES = ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID")
"""Environment variables of torchrun, of Lightning's own processes, and of SLURM."""


def is_rank_zero() -> bool:
    """Return whether this process writes files and prints; works before the processes have connected."""
    if _is_distributed():
        return distributed.get_rank() == 0
    return all(os.environ.get(name, "0") == "0" for name in _RANK_VARIABLES if _is_valid(name))


def local_rank() -> int:
    """Return the rank of this process on its machine, which is the number of its GPU."""
    default_rank = os.environ.get("SLURM_LOCALID", "0") if _is_valid("SLURM_PROCID") else "0"
    return int(os.environ.get("LOCAL_RANK", default_rank))


def all_reduce_mean(value: Tensor) -> Tensor:
    """Return the mean of a tensor over the processes.

    Args:
        value: of any shape.

    Returns:
        The mean, of the same shape, detached from the graph.
    """
    value = value.detach()
    if _is_distributed():
        value = value.clone()
        distributed.all_reduce(value)
        value /= distributed.get_world_size()
    return value


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace every gradient by its mean over the processes, in one message for all of them.

    Args:
        parameters: those without a gradient are left out.
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
        value: of this process; it can be pickled.

    Returns:
        One value per process, by rank.
    """
    if not _is_distributed():
        return [value]
    values: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(values, value)
    return values


def _is_distributed() -> bool:
    return distributed.is_available() and distributed.is_initialized()


def _is_valid(name: str) -> bool:
    """Return whether a variable tells a rank: SLURM sets its own in every shell, also without parallel tasks."""
    return not name.startswith("SLURM") or int(os.environ.get("SLURM_NTASKS", "1")) > 1
