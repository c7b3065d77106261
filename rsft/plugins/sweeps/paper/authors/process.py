"""Train with the code of the paper's authors, metalora or LIFT.

It gets the chips, the start and the batches of a recipe. Their code runs in a process
of its own, `rsft.plugins.sweeps.paper.authors.trainer`.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from rsft.errors import RequestError, RsftError
from rsft.peft.modules.adapter_module import NamedTensors
from rsft.recipe.load import load_recipe
from rsft.training.assembly import make_learner
from rsft.training.learner import Learner
from rsft.training.setup import (
    TrainingSetup,
    initialize_weights,
    seed_generators,
    set_up,
)
from rsft.types import JsonObject

COMMITS = {
    "metalora": "5c71a62d40905bf5f38b4c3d36ff93bcf4597d2e",
    "LIFT": "661ead9b78368f05ba79abe4672d63154467f823",
}
"""Commit of each repository."""

SATMAE = "satmae_vit_large_patch16_224.fmow_rgb"
"""The backbone that metalora loads by its own code."""


@dataclass(frozen=True)
class AuthorsTask:
    """A training for the authors' code.

    Attributes:
        recipe: path of the recipe file of rsft.
        overrides: `section.key=value` for the recipe.
        config: the authors' settings, beside their defaults.
        tensors: trained tensors of a block in rsft -> parameters of the authors, where
            * is the block.
        dtype: "float64" or "float32".
        every_step: whether the trace has the tensors after every step; else those after
            the last one.
        takes_rates: whether modules and head have the learning rates of the recipe, in
            place of `config`.
    """

    recipe: str
    overrides: tuple[str, ...]
    config: JsonObject
    tensors: Mapping[str, str]
    dtype: str = "float32"
    every_step: bool = False
    takes_rates: bool = False

    def prepare(self, device: str = "cpu") -> tuple[TrainingSetup, Learner]:
        """Open the chips and build the network with its start, as training does.

        Args:
            device: "cpu" or "cuda".
        """
        recipe = load_recipe(Path(self.recipe), self.overrides)
        seed_generators(recipe.seed)
        setup = set_up(recipe)
        setup.classifier.to(device)
        initialize_weights(setup)
        dtype = getattr(torch, self.dtype)
        vit = setup.classifier.to(dtype).adapted.vit
        vit.get_submodule("patch_embed").register_forward_pre_hook(
            lambda module, args: (args[0].to(dtype),)
        )
        return setup, make_learner(setup)

    def authors_name(self, name: str) -> str:
        """Return the authors' name of a tensor; one that they lack keeps its name."""
        match = re.fullmatch(r"blocks\.(\d+)\.(.+)", name)
        if match and match[2] in self.tensors:
            return self.tensors[match[2]].replace("*", match[1])
        return name


@dataclass(frozen=True)
class Trace:
    """A training.

    Attributes:
        start: the tensors with which the code begins, by the name in rsft.
        losses: the loss of each step.
        rates: learning rates of modules and head at each step.
        states: the tensors after each step.
    """

    start: NamedTensors
    losses: list[float]
    rates: list[tuple[float, float]]
    states: list[NamedTensors]


def swap_axes(name: str, tensor: Tensor) -> Tensor:
    """Swap the axes of a factor of LoRA: the authors have (in, r) and (r, out)."""
    return tensor.T if name.endswith((".a", ".b")) else tensor


def learned_tensors(learner: Learner) -> NamedTensors:
    """Return the tensors that a learner trains.

    Alpha, or the factors of the features, are in place of gamma.
    """
    state = learner.classifier.learned_state()
    tensors = {name: x.clone() for name, x in state.items() if name != "gamma"}
    for site, factors in learner.loops.factors().items():
        rank = len(state[f"{site}.a"]) if f"{site}.a" in state else 1
        tensors[f"{site}.alpha"] = rank * factors
    return tensors


def require_checkout(name: str, folder: Path) -> None:
    """Raise RequestError if a folder is no checkout of a commit of `COMMITS`."""
    command = ["git", "-C", str(folder), "diff", "--quiet", COMMITS[name], "--", "*.py"]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        raise RequestError(
            f"the Python files are not those of {name} at {COMMITS[name][:7]}",
            folder,
            f"git clone the repository of {name}, and git checkout {COMMITS[name]}",
        )


def train_by_authors(checkout: Path, device: str, task: AuthorsTask) -> Trace:
    """Train with the authors' code in a process of its own.

    Args:
        checkout: folder of the code.
        device: "cpu" or "cuda".
        task: what to train.

    Returns:
        The training, with the names and the axes of rsft.

    Raises:
        RsftError: the code fails.
    """
    module = "rsft.plugins.sweeps.paper.authors.trainer"
    command = [sys.executable, "-m", module, str(checkout.resolve()), device]
    environment = dict(os.environ)
    if device == "cpu":  # LIFT takes a GPU if there is one
        environment["CUDA_VISIBLE_DEVICES"] = ""
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            input=json.dumps(asdict(task)),
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        if process.returncode:
            raise RsftError(
                "the code of the authors failed", checkout, process.stderr[-2000:]
            )
        return Trace(**torch.load(Path(folder, "result.pt"), weights_only=True))
