"""The text of a sweep file, and a sweep with outcomes."""

import itertools

from rsft.plugins.sweeps.sweep_file import Sweep
from rsft.study.outcomes import TrialOutcome

SWEEP_FILE = """\
recipe: RECIPE
overrides: {meta: null, train.epochs: 1}
grid:
  peft.positions: [q, 1]
  peft.scale: [0.5, 1/r]
seeds: [0, 1]
"""

SWEEP = Sweep(
    recipe="r",
    grid={"peft.positions": ["q", 1], "peft.scale": [0.5, 1, "1/r"]},
    seeds=[0, 1],
)


def outcomes(sweep=SWEEP, failed=("q", "1/r")):
    by_id = {}
    grid = itertools.product(
        enumerate(sweep.grid["peft.positions"]),
        enumerate(sweep.grid["peft.scale"]),
        sweep.seeds,
    )
    for (row, position), (column, scale), seed in grid:
        keys = {"peft.positions": position, "peft.scale": scale, "seed": seed}
        value = 0.5 + 0.1 * row + 0.05 * column + 0.01 * seed
        outcome = TrialOutcome(
            keys,
            "done",
            "",
            {"val_macro": value, "val_tail": 1 - value, "val_loss": 2.0},
            9.0,
        )
        if (position, scale) == failed:
            outcome = TrialOutcome(keys, "failed", "the loss is nan")
        by_id[f"{position}{column}{seed}"] = outcome
    return by_id
