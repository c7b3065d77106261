"""How many processes train, and on what: for Lightning's trainer, which starts them or meets those that are there."""

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
from rsft.recipe.schema import Train
from rsft.training.distributed.collectives import local_rank


class Averaging(DDPStrategy):
    """Processes with a copy of the model each. The loops average gradients themselves (`processes`).

    `DistributedDataParallel` would average them while the backward pass runs. What is trained here is small, so that
    wins nothing; it waits for every parameter in every pass, where each loop moves its own; and it does not see
    gradients that `torch.autograd.grad` returns, as those of gamma.
    """

    def configure_ddp(self) -> None:
        """Nothing around the model."""


class Sharded(Averaging):
    """The same, but of each frozen block a process holds a part alone (FSDP 2), gathered when the block is run.

    What is trained is whole in every process. A block is called as it is, not through the lean path.
    """

    def configure_ddp(self) -> None:
        """Shard the blocks, which are on their device by now."""
        from torch.distributed.fsdp import fully_shard

        task = cast(Any, self.lightning_module)
        trained = {*task.theta, *task.gamma}
        for block in cast(nn.ModuleList, task.classifier.adapted.vit.blocks):
            fully_shard(block, ignored_params=trained)


def own_device(name: str) -> torch.device:
    """`choose_device`, and of several GPUs on this machine the one of this process."""
    device = choose_device(name)
    return torch.device("cuda", local_rank()) if device.type == "cuda" and local_rank() else device


def trainer_processes(train: Train) -> dict[str, Any]:
    """The arguments of Lightning's trainer.

    Raises:
        RequestError: numbers that do not fit each other, or the processes that torchrun or SLURM started.
    """
    wanted = train.devices * train.nodes
    started = _started()
    if started is not None and started != wanted:
        raise RequestError(
            f"{started} processes were started, and the recipe asks for {wanted}",
            "train.devices, train.nodes",
            "set train.devices to those of one machine and train.nodes to the number of machines",
        )
    if train.batch_size % wanted:
        what = f"a batch of {train.batch_size} chips cannot be shared by {wanted} processes"
        raise RequestError(what, "train.batch_size", "choose a multiple")
    if wanted > 1 and train.precision == "auto":
        raise RequestError("every process would choose its own", "train.precision", "set it; `rsft doctor` measures")
    if wanted == 1:
        if train.strategy == "fsdp":
            raise RequestError("one process has nobody to shard with", "train.strategy", "raise train.devices")
        return {"devices": 1}
    strategy = Sharded() if train.strategy == "fsdp" else Averaging()
    # a job that is queued again resumes by our checkpoints, not by Lightning's
    plugins = [SLURMEnvironment(auto_requeue=False)] if SLURMEnvironment.detect() else []
    return {"devices": train.devices, "num_nodes": train.nodes, "strategy": strategy, "plugins": plugins}


def _started() -> int | None:
    """Processes that torchrun or SLURM has started; None where Lightning starts them."""
    if TorchElasticEnvironment.detect():
        return int(os.environ["WORLD_SIZE"])
    return int(os.environ["SLURM_NTASKS"]) if SLURMEnvironment.detect() else None
