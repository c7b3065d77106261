"""Start the processes of a run with Lightning Fabric, and shard the frozen blocks over them."""

from __future__ import annotations

import os

import torch
from lightning.fabric import Fabric
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment

from rsft.errors import RequestError
from rsft.models.classifier import Classifier
from rsft.peft.modules.target_layers import transformer_blocks
from rsft.recipe.schema import TrainSection
from rsft.training.precision import FABRIC_PRECISIONS


def launch_processes(train: TrainSection, device: torch.device) -> Fabric:
    """Start the processes of a run, or join those that torchrun or SLURM started.

    Fabric sets up devices, communication and precision. It does not wrap the model: `DistributedDataParallel` would
    average gradients in the backward pass and wait for every parameter, although each loop updates only its own
    parameters, and it would miss gradients from `torch.autograd.grad`, such as those of gamma. The loops average
    gradients themselves (`average_gradients`).

    Args:
        train: the section `train` of the recipe; its precision is not "auto".
        device: the kind of device.

    Returns:
        The launched Fabric.
    """
    fabric = Fabric(
        accelerator=device.type,
        devices=train.devices,
        num_nodes=train.nodes,
        strategy="auto" if train.devices * train.nodes == 1 else "ddp",
        precision=FABRIC_PRECISIONS[train.precision],
    )
    fabric.launch()
    return fabric


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
    """Return the number of processes that torchrun or SLURM started; None if Fabric starts them."""
    if TorchElasticEnvironment.detect():
        return int(os.environ["WORLD_SIZE"])
    return int(os.environ["SLURM_NTASKS"]) if SLURMEnvironment.detect() else None
