"""Number of processes and parallel strategy of a run, as options of Lightning's trainer."""

from __future__ import annotations

import os
from typing import Any, cast

import torch
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch.strategies import DDPStrategy
from torch import nn

from rsft.errors import RequestError
from rsft.models.factory import choose_device
from rsft.recipe.schema import TrainSection
from rsft.training.distributed.collectives import local_rank


class AveragingStrategy(DDPStrategy):
    """Data-parallel strategy for `BiLevelLoop`, which averages gradients itself (`average_gradients`).

    `DistributedDataParallel` would average them during the backward pass, which saves no time with so few trained
    parameters. It would also wait for every parameter in every pass, although each loop updates only its own
    parameters, and it would miss gradients from `torch.autograd.grad`, such as those of gamma.
    """

    def configure_ddp(self) -> None:
        """Do not wrap the model."""


class ShardedStrategy(AveragingStrategy):
    """Data-parallel strategy with sharded frozen blocks (FSDP 2), which are gathered when they run.

    Trained parameters are not sharded. Blocks run without the memory-efficient kernels.
    """

    def configure_ddp(self) -> None:
        """Shard the blocks, which are on their device already."""
        from torch.distributed.fsdp import fully_shard

        module = cast(Any, self.lightning_module)
        trained = {*module.theta, *module.gamma}
        for block in cast(nn.ModuleList, module.classifier.adapted.vit.blocks):
            fully_shard(block, ignored_params=trained)


def process_device(name: str) -> torch.device:
    """Return the device of this process; its local rank selects one of several GPUs.

    Args:
        name: auto, cpu or cuda.

    Returns:
        The device.

    Raises:
        RequestError: "cuda" on a machine without a GPU.
    """
    device = choose_device(name)
    return torch.device("cuda", local_rank()) if device.type == "cuda" and local_rank() else device


def trainer_process_options(train: TrainSection) -> dict[str, Any]:
    """Return the arguments of Lightning's trainer for the processes of a run.

    Args:
        train: the section `train` of the recipe.

    Returns:
        "devices", and for several processes "num_nodes", "strategy" and "plugins".

    Raises:
        RequestError: keys of the recipe contradict each other, or contradict the number of processes that torchrun or
            SLURM started.
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
    if world_size == 1:
        if train.strategy == "fsdp":
            message = "sharding needs more than one process"
            raise RequestError(message, "train.strategy", "increase train.devices, or use train.strategy=auto")
        return {"devices": 1}
    strategy = ShardedStrategy() if train.strategy == "fsdp" else AveragingStrategy()
    # a requeued SLURM job resumes from rsft's checkpoints, not from Lightning's
    plugins = [SLURMEnvironment(auto_requeue=False)] if SLURMEnvironment.detect() else []
    return {"devices": train.devices, "num_nodes": train.nodes, "strategy": strategy, "plugins": plugins}


def _count_started_processes() -> int | None:
    """Return the number of processes that torchrun or SLURM started; None if Lightning starts them."""
    if TorchElasticEnvironment.detect():
        return int(os.environ["WORLD_SIZE"])
    return int(os.environ["SLURM_NTASKS"]) if SLURMEnvironment.detect() else None
