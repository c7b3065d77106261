"""Recipes, and values from the command line."""

from __future__ import annotations

from pathlib import Path

from rsft.recipe.load import dump_recipe, load_recipe
from tests.fuzz.mutate import mutate_text
from tests.fuzz.target import Target

RECIPE = """\
# A recipe with keys of every section
seed: 3
data: {root: data/ships, size: 64, stretch: log1p, augment: sar, bands: [VV, VH]}
peft:
  method: lora+adaptformer
  rank: {"*": 4, v: 8}
  dim: 8
  blocks: "every:2"
meta: {outer_every: 5}
head: {kind: linear, init: linear-probe}
loss: {name: logit_adjustment, tau: 1.5}
train: {epochs: 3, lr: 0.01, precision: bf16, checkpoint_minutes: null}
evaluate: {tta: five-crop, margin: 8}
"""


def _read_recipe(folder: Path) -> None:
    dump_recipe(load_recipe(folder / "ships.yaml"))


def _build_overrides(folder: Path) -> None:
    (folder / "ships.yaml").write_text(
        "data: {root: data/ships, size: 64}\ntrain: {epochs: 3}\n"
    )
    lines = [
        "train.lr=0.02",
        "peft.rank={'*': 4}",
        "loss={name: focal, gamma: 1.5}",
        "data.bands=[VV, VH]",
        "seed=1",
    ]
    (folder / "overrides.txt").write_text(
        "\n".join([*lines, "meta=null", "name=ships"])
    )


def _read_overrides(folder: Path) -> None:
    lines = (
        (folder / "overrides.txt")
        .read_bytes()
        .decode("utf-8", "surrogateescape")
        .split("\n")
    )
    dump_recipe(
        load_recipe(folder / "ships.yaml", [line.replace("\0", "") for line in lines])
    )


TARGETS = [
    Target(
        "recipes",
        lambda folder: (folder / "ships.yaml").write_text(RECIPE),
        {"ships.yaml": mutate_text},
        _read_recipe,
    ),
    Target(
        "overrides",
        _build_overrides,
        {"overrides.txt": mutate_text},
        _read_overrides,
        named_by="",
    ),
]
