"""One of several processes that train together, on gloo; the first writes the losses of every step as JSON.

    python tests/helpers/two_processes.py RANK COUNT PORT RECIPE RUNS OUT [WISHES ...]

WISHES are overrides joined by spaces, one argument a run.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path


def main(rank: str, count: str, port: str, recipe: str, runs: str, out: str, *trials: str) -> None:
    """As torchrun starts it."""
    names = {"RANK": rank, "LOCAL_RANK": rank, "GROUP_RANK": "0", "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
    os.environ |= names | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "none"}

    from torch.distributed.tensor import DTensor

    from rsft.recipe.load import load_recipe
    from rsft.training.callbacks.recorder import RunListener
    from rsft.training.distributed.strategies import AveragingStrategy, ShardedStrategy
    from rsft.training.finetune import finetune

    shards: list[int] = []
    for strategy in (AveragingStrategy, ShardedStrategy):

        def configure(self, around=strategy.configure_ddp) -> None:
            around(self)
            shards.append(sum(isinstance(each, DTensor) for each in self.lightning_module.parameters()))

        strategy.configure_ddp = configure  # type: ignore[method-assign]

    class Losses(RunListener):
        def __init__(self) -> None:
            self.inner: list[float] = []

        def on_step(self, step) -> None:
            self.inner.append(step.loss)

    told = {}
    for wishes in trials:
        losses = Losses()
        run = finetune(load_recipe(Path(recipe), [*wishes.split(), f"train.devices={count}"]), Path(runs), losses)
        told[wishes] = {
            "losses": losses.inner,
            "folder": str(run.folder),
            "writing": run.is_writer,
            "shards": shards[-1],
        }
    Path(f"{out}.{rank}").write_text(json.dumps(told))


if __name__ == "__main__":
    main(*sys.argv[1:])
