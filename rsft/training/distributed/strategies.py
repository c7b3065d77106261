"""Number and kind of the processes that train, as options of Lightning's trainer."""

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
    """Data parallelism in which the loops average gradients themselves (`average_gradients`).

    `DistributedDataParallel` would average them during the backward pass. The trained parameters are few, so that saves
    no time. It also waits for every parameter in every pass, while each loop moves only its own, and it misses
    gradients that `torch.autograd.grad` returns, such as those of gamma.
    """

    def configure_ddp(self) -> None:
        """Leave the model unwrapped."""


class ShardedStrategy(AveragingStrategy):
    """The same with sharded frozen blocks (FSDP 2): a process holds a part of each block, gathered when the block runs.

    Trained parameters are whole in every process. Blocks run without the memory-efficient kernels.
    """

    def configure_ddp(self) -> None:
        """Shard the blocks, which are on their device by now."""
        from torch.distributed.fsdp import fully_shard

        module = cast(Any, self.lightning_module)
        trained = {*module.theta, *module.gamma}
        for block in cast(nn.ModuleList, module.classifier.adapted.vit.blocks):
            fully_shard(block, ignored_params=trained)


def process_device(name: str) -> torch.device:
    """Return the device of this process: one of several GPUs by its local rank.

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
        train: section of the recipe.

    Returns:
        "devices", and for several processes "num_nodes", "strategy" and "plugins".

    Raises:
        RequestError: keys of the recipe contradict each other, or the number of processes that torchrun or SLURM
            started.
    """
    world_size = train.devices * train.nodes
    started = _count_started_processes()
    if started is not None and started != world_size:
        raise RequestError(
            f"{started} processes were started, and the recipe asks for {world_size}",
            "train.devices, train.nodes",
            "set train.devices to the number on one machine and train.nodes to the number of machines",
        )
    if train.batch_size % world_size:
        message = f"a batch of {train.batch_size} chips cannot be shared by {world_size} processes"
        raise RequestError(message, "train.batch_size", f"choose a multiple of {world_size}")
    if world_size > 1 and train.precision == "auto":
        hint = "set it; `rsft doctor` measures the speed of each precision"
        raise RequestError("every process would choose its own precision", "train.precision", hint)
    if world_size == 1:
        if train.strategy == "fsdp":
            message = "sharding needs more than one process"
            raise RequestError(message, "train.strategy", "raise train.devices, or use train.strategy=auto")
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
