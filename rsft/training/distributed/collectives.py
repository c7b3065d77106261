"""The processes of a run: who writes, and what they must agree on. Alone, everything here is the identity."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, distributed, nn

_RANKS = ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID")  # of torchrun, of Lightning's own processes, of SLURM


def writes() -> bool:
    """Whether this process is the one that writes files and speaks; known before the processes have met."""
    if _is_distributed():
        return distributed.get_rank() == 0
    return all(os.environ.get(name, "0") == "0" for name in _RANKS if _counts(name))


def place() -> tuple[int, int]:
    """The number of this process and how many there are."""
    return (distributed.get_rank(), distributed.get_world_size()) if _is_distributed() else (0, 1)


def local_rank() -> int:
    """The number of this process on its machine: that of its GPU."""
    return int(os.environ.get("LOCAL_RANK", os.environ.get("SLURM_LOCALID", "0") if _counts("SLURM_PROCID") else "0"))


def mean(value: Tensor) -> Tensor:
    """Of a tensor over the processes; it carries no gradient."""
    value = value.detach()
    if _is_distributed():
        value = value.clone()
        distributed.all_reduce(value)
        value /= distributed.get_world_size()
    return value


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace every gradient by its mean over the processes; one message for all of them."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if _is_distributed() and gradients:
        joined = mean(torch.cat([gradient.flatten() for gradient in gradients]))
        for gradient, part in zip(gradients, torch.split(joined, [each.numel() for each in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))


def gather(value: Any) -> list[Any]:
    """What every process has, in their order."""
    if not _is_distributed():
        return [value]
    found: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(found, value)
    return found


def _is_distributed() -> bool:
    return distributed.is_available() and distributed.is_initialized()


def _counts(name: str) -> bool:
    """SLURM sets its variables in every shell that it gives out; they mean ranks within a job of several tasks."""
    return not name.startswith("SLURM") or int(os.environ.get("SLURM_NTASKS", "1")) > 1
