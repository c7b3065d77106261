"""Start the processes of a run, and shard the frozen blocks over them."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from rsft.data.loading.batches import Batch
from rsft.errors import RequestError
from rsft.models.classifier import Classifier, copy_to_device
from rsft.peft.modules.adapter_module import transformer_blocks
from rsft.recipe.schema import TrainSection
from rsft.training.precision import HALF_DTYPES


@dataclass(frozen=True)
class Processes:
    """The processes of a run, as one of them sees them.

    Attributes:
        device: device of this process.
        dtype: dtype of matrix products under autocast; None computes them in float32.
        rank: number of this process from 0.
        world_size: number of processes.
    """

    device: torch.device
    dtype: torch.dtype | None = None
    rank: int = 0
    world_size: int = 1

    def autocast(self) -> AbstractContextManager[Any]:
        """Return a context in which the network computes in the precision of the run."""
        return nullcontext() if self.dtype is None else torch.autocast(self.device.type, self.dtype)

    def to_device(self, batch: Batch) -> Batch:
        """Return a batch on the device of this process.

        Args:
            batch: network inputs (B, ...) and labels (B,).
        """
        inputs, labels = batch
        return copy_to_device(inputs, self.device), copy_to_device(labels, self.device)


def launch_processes(train: TrainSection, device: torch.device) -> Processes:
    """Start the processes of a run, or join those that torchrun or SLURM started.

    Lightning Fabric sets up devices and communication of several processes. It does not wrap the model:
    `DistributedDataParallel` would average gradients in the backward pass and wait for every parameter, although each
    loop updates only its own parameters, and it would miss gradients from `torch.autograd.grad`, such as those of
    gamma. The loops average gradients themselves (`average_gradients`). A run of one process does not import Lightning,
    which takes more than a second.

    Args:
        train: the section `train` of the recipe; its precision is not "auto".
        device: the kind of device.

    Returns:
        The launched processes.
    """
    dtype = HALF_DTYPES.get(train.precision)
    if train.devices * train.nodes == 1:
        return Processes(torch.device(device.type, 0) if device.type == "cuda" else device, dtype)
    from lightning.fabric import Fabric

    fabric = Fabric(accelerator=device.type, devices=train.devices, num_nodes=train.nodes, strategy="ddp")
    fabric.launch()
    return Processes(fabric.device, dtype, fabric.global_rank, fabric.world_size)


def require_consistent_processes(train: TrainSection) -> None:
    """Raise an error if the keys of a recipe on processes contradict each other or the started processes.

    Args:
        train: the section `train` of the recipe.

    Raises:
        RequestError: they contradict each other, or the number of processes that torchrun or SLURM started.
    """
    world_size = train.devices * train.nodes
    started = _count_started_processes()
    if started is not None and started != world_size:
        raise RequestError(
            f"{started} processes were started, but the recipe asks for {world_size}",
            "train.devices, train.nodes",
            "set train.devices to the number on one machine and train.nodes to the number of machines",
        )
    if train.batch_size % world_size:
        message = f"a batch of {train.batch_size} chips cannot be shared by {world_size} processes"
        raise RequestError(message, "train.batch_size", f"choose a multiple of {world_size}")
    if world_size > 1 and train.precision == "auto":
        hint = "set train.precision; `rsft doctor` measures the speed of each precision"
        raise RequestError("with precision auto every process would choose its own", "train.precision", hint)
    if world_size == 1 and train.strategy == "fsdp":
        message = "sharding needs more than one process"
        raise RequestError(message, "train.strategy", "increase train.devices, or use train.strategy=auto")


def shard_frozen_blocks(classifier: Classifier) -> None:
    """Shard the blocks of a classifier over the processes (FSDP 2); a block is gathered when it runs.

    Learned parameters are not sharded. Blocks run without the memory-efficient kernels.

    Args:
        classifier: the network, on its device.
    """
    from torch.distributed.fsdp import fully_shard

    learned = {*classifier.adapted.additive.parameters(), *classifier.head.parameters(), *classifier.adapted.gamma}
    for block in transformer_blocks(classifier.adapted.vit):
        fully_shard(block, ignored_params=learned)


def _count_started_processes() -> int | None:
    """Return the number of processes that torchrun or SLURM started; None if rsft starts them."""
    if torch.distributed.is_torchelastic_launched():
        return int(os.environ["WORLD_SIZE"])
    if "SLURM_NTASKS" not in os.environ:
        return None
    from lightning.fabric.plugins.environments.slurm import SLURMEnvironment

    return int(os.environ["SLURM_NTASKS"]) if SLURMEnvironment.detect() else None  # None in an interactive shell
