"""One of several processes that train together on gloo; it writes the losses of every step as JSON.

    python tests/helpers/two_processes.py RANK WORLD_SIZE PORT RECIPE RUNS OUT [OVERRIDES ...]

Each of OVERRIDES starts a run; it holds overrides of recipe keys, separated by spaces.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path


def main(rank: str, world_size: str, port: str, recipe: str, runs: str, out: str, *trials: str) -> None:
    """Train as a process that torchrun started."""
    os.environ |= {"RANK": rank, "LOCAL_RANK": rank, "GROUP_RANK": "0", "TORCHELASTIC_RUN_ID": "none"}
    os.environ |= {"WORLD_SIZE": world_size, "LOCAL_WORLD_SIZE": world_size}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}

    from torch.distributed.tensor import DTensor

    from rsft.backbones.loading import tensors_sha256
    from rsft.recipe.load import load_recipe
    from rsft.training import finetune as finetune_module
    from rsft.training.trackers import RunListener

    shard_counts: list[int] = []
    digests: list[str] = []
    fit = finetune_module.fit

    def count_shards_and_fit(processes, learner, *arguments) -> None:
        shard_counts.append(sum(isinstance(x, DTensor) for x in learner.classifier.parameters()))
        fit(processes, learner, *arguments)
        learner.keep_average()
        digests.append(tensors_sha256(learner.classifier.learned_state()))

    finetune_module.fit = count_shards_and_fit

    class LossRecorder(RunListener):
        def __init__(self) -> None:
            self.losses: list[float] = []

        def on_step(self, step) -> None:
            self.losses.append(step.loss)

    results = {}
    for overrides in trials:
        recorder = LossRecorder()
        loaded = load_recipe(Path(recipe), [*overrides.split(), f"train.devices={world_size}"])
        run = finetune_module.finetune(loaded, Path(runs), recorder)
        results[overrides] = {"losses": recorder.losses, "folder": str(run.folder)}
        results[overrides] |= {"is_writer": run.is_writer, "shards": shard_counts[-1], "digest": digests[-1]}
    Path(f"{out}.{rank}").write_text(json.dumps(results))


if __name__ == "__main__":
    main(*sys.argv[1:])
