"""The runs of a sign test of outer signals: their names, their recipes, the groups of sites, and their result files.

See `tools.reproduction.outer_signals`.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rsft.errors import DataError, RequestError
from rsft.recipe.load import load_recipe
from rsft.recipe.schema import Recipe
from rsft.recipe.text import to_yaml
from tools.reproduction.quality_study import recipe_identity

LOG_STEP = 0.7
"""Change of the log scale of a group: a factor of 2.01 or its inverse."""

BATCH_KINDS = ("random", "balanced", "validation")
FACTORS = ("A", "B")
MEASURES = ("dot", "cosine")
HORIZONS = (1.0, 5.0, 15.0, 50.0, math.inf)
"""Numbers of steps over which displacements are summed."""


def signal_name(kind: str, factor: str, measure: str, horizon: float) -> str:
    """Return the name of a signal in result files and tables.

    Args:
        kind: outer batch, one of `BATCH_KINDS`.
        factor: "A" or "B" of LoRA.
        measure: "dot" or "cosine".
        horizon: steps over which the displacement is summed.
    """
    return f"{kind} {factor} {measure} h={horizon:g}"


def fisher_name(kind: str) -> str:
    """Return the name of the Fisher score of an outer batch.

    Args:
        kind: outer batch, one of `BATCH_KINDS`.
    """
    return f"{kind} Fisher"


SIGNED = tuple(signal_name(k, f, m, h) for k in BATCH_KINDS for f in FACTORS for m in MEASURES for h in HORIZONS)
"""Signals whose sign says whether a larger scale helps, in the order of the tables."""

UNSIGNED = tuple(map(fisher_name, BATCH_KINDS))
"""Scores that are never negative, so that only their ranks can be compared with the truth."""


class InnerOptimizer(NamedTuple):
    """Optimizer of the inner loop.

    Attributes:
        name: "sgd" or "adamw".
        lr: learning rate.
        weight_decay: weight decay; None takes that of the recipe.
    """

    name: str
    lr: float
    weight_decay: float | None = None

    def __str__(self) -> str:
        """Return a short text such as "adamw 0.012"."""
        decay = "" if self.weight_decay is None else f" decay {self.weight_decay:g}"
        return f"{self.name} {self.lr:g}{decay}"

    def overrides(self) -> list[str]:
        """Return KEY=VALUE overrides of the recipe."""
        decay = [] if self.weight_decay is None else [f"train.weight_decay={self.weight_decay}"]
        return [f"train.optimizer={self.name}", f"train.lr={self.lr}", *decay]


def parse_optimizer(text: str) -> InnerOptimizer:
    """Return the optimizer of a text such as "sgd:0.3" or "adamw:0.012:0.01", the last number being the weight decay.

    Args:
        text: NAME:LR or NAME:LR:WEIGHT_DECAY.

    Raises:
        ValueError: the text has another form.
    """
    name, *numbers = text.split(":")
    if len(numbers) not in (1, 2):
        raise ValueError("write NAME:LR or NAME:LR:WEIGHT_DECAY")
    return InnerOptimizer(name, *map(float, numbers))


class Start(NamedTuple):
    """What an unperturbed run and its perturbed runs have in common.

    Attributes:
        optimizer: optimizer of the inner loop.
        seed: seed of the runs.
        scale: scale of all sites.
        digest: digest of all other settings.
    """

    optimizer: InnerOptimizer
    seed: int
    scale: float
    digest: str


class SignalRun(NamedTuple):
    """One short run.

    Attributes:
        start: settings without the perturbation.
        group: group of sites whose scales differ from the start; "" for none.
        direction: 1 for larger scales, -1 for smaller scales, 0 for the unperturbed run.
    """

    start: Start
    group: str = ""
    direction: int = 0

    @property
    def name(self) -> str:
        """Short text for file names and messages."""
        change = {0: "unperturbed", 1: f"{self.group} larger", -1: f"{self.group} smaller"}[self.direction]
        return f"{self.start.optimizer} scale {self.start.scale:g} {change} {self.start.digest}"

    @property
    def seed(self) -> int:
        """Seed of the run."""
        return self.start.seed

    def result_file(self, folder: Path) -> Path:
        """Return the path of the run's result.

        Args:
            folder: folder of the results.
        """
        return folder / f"{self.name}, seed {self.seed}.json"

    def scale_override(self) -> str:
        """Return the KEY=VALUE override for the scales of all sites."""
        scale = self.start.scale
        if not self.direction:
            return f"peft.scale={scale}"
        value = round(scale * math.exp(self.direction * LOG_STEP), 6)
        return f"peft.scale={to_yaml({site_pattern(self.group): value, '*': scale})}"


def site_pattern(group: str) -> str:
    """Return the pattern that the sites of a group match, such as "*.q" or "blocks.3.*".

    Args:
        group: "all", a position, or "block" and a number.
    """
    if group == "all":
        return "blocks.*"
    block = group.removeprefix("block ")
    return f"blocks.{block}.*" if block != group else f"*.{group}"


def site_groups(sites: Sequence[str]) -> dict[str, list[str]]:
    """Return the groups of sites, other than "all", by kind.

    Args:
        sites: names of the sites, such as "blocks.3.q".

    Returns:
        Names of the groups with the keys "positions" and "blocks", in the order of the sites.
    """
    pairs = [site.split(".")[1:] for site in sites]
    blocks, positions = (list(dict.fromkeys(names)) for names in zip(*pairs, strict=True))
    return {"positions": positions, "blocks": [f"block {block}" for block in blocks]}


class SignalStudy(NamedTuple):
    """The runs of one command.

    Attributes:
        recipe_path: path of the recipe.
        overrides: KEY=VALUE overrides of every run.
        optimizers: optimizers of the inner loop.
        scales: scales of all sites at the start.
        seeds: seeds of the runs.
        kinds: kinds of groups: "all", "positions" and "blocks".
    """

    recipe_path: Path
    overrides: Sequence[str]
    optimizers: Sequence[InnerOptimizer]
    scales: Sequence[float]
    seeds: Sequence[int]
    kinds: Sequence[str]

    def recipe(self, optimizer: InnerOptimizer, *overrides: str) -> Recipe:
        """Return the recipe of a run: plain PEFT with constant scales.

        Args:
            optimizer: optimizer of the inner loop.
            overrides: further KEY=VALUE overrides.

        Raises:
            RecipeError: a value is not valid.
            RequestError: the method is not LoRA, or the precision is not fp32.
        """
        recipe = load_recipe(self.recipe_path, ["meta=null", *self.overrides, *optimizer.overrides(), *overrides])
        if recipe.meta is not None or recipe.peft.method != "lora" or recipe.train.precision != "fp32":
            hint = "set peft.method=lora and train.precision=fp32, and leave out meta"
            raise RequestError("the sign test needs plain LoRA in fp32", self.recipe_path, hint)
        return recipe

    def starts(self) -> list[Start]:
        """Return all starts, seed by seed.

        Raises:
            RecipeError: a value is not valid.
            RequestError: the recipe does not suit the test.
        """
        digests = {optimizer: _digest(self.recipe(optimizer)) for optimizer in self.optimizers}
        return [
            Start(optimizer, seed, scale, digests[optimizer])
            for seed in self.seeds
            for optimizer in self.optimizers
            for scale in self.scales
        ]

    def groups(self, sites: Sequence[str]) -> list[str]:
        """Return the groups of sites of the study.

        Args:
            sites: names of the sites; without sites only the group "all" exists.
        """
        groups = {"all": ["all"], **(site_groups(sites) if sites else {})}
        return [group for kind, names in groups.items() if kind in self.kinds for group in names]


def _digest(recipe: Recipe) -> str:
    return hashlib.sha256(recipe_identity(recipe.model_dump(mode="json")).encode()).hexdigest()[:8]


def perturbed_runs(start: Start, groups: Sequence[str]) -> list[SignalRun]:
    """Return the runs with larger and smaller scales of each group.

    Args:
        start: settings without the perturbation.
        groups: names of groups.
    """
    return [SignalRun(start, group, direction) for group in groups for direction in (1, -1)]


class SignalResult(NamedTuple):
    """The result of one run.

    Attributes:
        loss: final cross entropy on the sample of the validation split.
        accuracy: final macro accuracy on the sample, 0-1.
        sites: names of the sites.
        signals: sums over the run by signal and site; empty for a perturbed run.
    """

    loss: float
    accuracy: float
    sites: list[str]
    signals: Mapping[str, list[float]]


def read_signal_result(path: Path) -> SignalResult | None:
    """Read the result of a run, and return None if the run has no result.

    Args:
        path: path of the JSON file.

    Raises:
        DataError: the file is not a result.
    """
    if not path.exists():
        return None
    try:
        values: dict[str, Any] = json.loads(path.read_text("utf-8"))
        return SignalResult(float(values["loss"]), float(values["accuracy"]), values["sites"], values["signals"])
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(f"not a result of a run: {error}", path, "remove the file to repeat the run") from None
