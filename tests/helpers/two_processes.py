"""One of several processes that train together on gloo; it writes the losses of every
step as JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from rsft.backbones.loading import tensors_sha256
from rsft.recipe.load import load_recipe
from rsft.training import finetune as finetune_module
from rsft.training import precision as precision_module
from rsft.training.listeners import RunListener


class LossRecorder(RunListener):
    """Keeps the loss of every step."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def on_step(self, step) -> None:
        self.losses.append(step.loss)


def train_trials(
    rank: int,
    world_size: int,
    port: str,
    recipe: Path,
    runs: Path,
    out: Path,
    trials: Sequence[str],
) -> None:
    """Train as a process that torchrun started.

    Args:
        trials: overrides of recipe keys for each run, separated by spaces.
    """
    from torch.distributed.tensor import DTensor

    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "GROUP_RANK": "0",
        "TORCHELASTIC_RUN_ID": "none",
    }
    os.environ |= {"WORLD_SIZE": str(world_size), "LOCAL_WORLD_SIZE": str(world_size)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    shard_counts: list[int] = []
    digests: list[str] = []
    precisions: list[str] = []
    # auto selects bf16 in the first process alone
    precision_module.has_instructions = lambda name, device: rank == 0
    fit = finetune_module.fit

    def count_shards_and_fit(learner, *arguments) -> None:
        shard_counts.append(
            sum(isinstance(x, DTensor) for x in learner.classifier.parameters())
        )
        precisions.append(learner.train.precision)
        fit(learner, *arguments)
        learner.finish()
        digests.append(tensors_sha256(learner.classifier.learned_state()))

    finetune_module.fit = count_shards_and_fit
    results = {}
    for overrides in trials:
        recorder = LossRecorder()
        loaded = load_recipe(
            recipe, [*overrides.split(), f"train.devices={world_size}"]
        )
        run = finetune_module.finetune(loaded, runs, recorder)
        results[overrides] = {"losses": recorder.losses, "folder": str(run.folder)}
        results[overrides] |= {
            "is_writer": run.is_writer,
            "shards": shard_counts[-1],
            "digest": digests[-1],
        }
        results[overrides]["precision"] = precisions[-1]
    Path(f"{out}.{rank}").write_text(json.dumps(results))
