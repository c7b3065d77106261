"""Sweep files."""

from __future__ import annotations

from pathlib import Path

from rsft.plugins.sweeps.sweep_file import read_sweep
from tests.fuzz.mutate import mutate_text
from tests.fuzz.target import Target

SWEEP = """\
recipe: quickstart
overrides: {train.epochs: 2}
grid:
  train.lr: [0.001, 0.01]
  peft.rank: [2, 4]
seeds: [0, 1]
metric: val_macro
x: train.lr
"""


def _read_sweep(folder: Path) -> None:
    read_sweep(folder / "sweep.yaml")


TARGETS = [
    Target(
        "sweeps",
        lambda folder: (folder / "sweep.yaml").write_text(SWEEP),
        {"sweep.yaml": mutate_text},
        _read_sweep,
    ),
]
