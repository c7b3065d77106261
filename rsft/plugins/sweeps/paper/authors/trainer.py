"""The process that imports the authors' trainers, and trains on batches of recipes.

    python -m rsft.plugins.sweeps.paper.authors.trainer CHECKOUT DEVICE

`train_by_authors` starts it, writes the task, and reads result.pt. Model, loss, loops,
optimizers, schedules and the start of the head are the authors', and so is the loading
of SatMAE. Stand-ins replace the data sets, the
tokenizer of CLIP (ftfy, regex), the reader of configurations (yacs, OmegaConf), loggers
and DDP. Chips, other frozen weights, the start of the modules and the batches are those
of rsft.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import torch
from torch import Tensor, nn

from rsft.backbones.card import find_weights
from rsft.backbones.loading import find_card
from rsft.backbones.mae import LARGE, NORM
from rsft.data.loading.batches import Batch
from rsft.models.devices import copy_batch
from rsft.models.loading import load_encoder
from rsft.peft.model.state_files import read_tensors
from rsft.peft.modules.adapter_module import NamedTensors
from rsft.plugins.sweeps.paper.authors.process import (
    SATMAE,
    AuthorsTask,
    learned_tensors,
    swap_axes,
)
from rsft.recipe.load import load_recipe
from rsft.training.learner import Learner
from rsft.training.objective import Objective
from rsft.training.setup import TrainingSetup
from rsft.types import JsonObject


class Config(JsonObject):
    """Stand-in of a configuration: a dictionary whose keys are attributes."""

    __setattr__ = dict.__setitem__

    def __getattr__(self, name: str) -> Any:
        if name not in self:
            raise AttributeError(name)
        return self[name]

    @classmethod
    def create(cls, values: Any) -> Any:
        """Return nested dictionaries as configurations."""
        if isinstance(values, dict):
            return cls({key: cls.create(x) for key, x in values.items()})
        return values

    def merge(self, values: JsonObject) -> None:
        """Replace values, also in nested sections."""
        for key, value in values.items():
            if isinstance(value, dict):
                self[key].merge(value)
            else:
                self[key] = value


STAND_INS = {
    "datasets": MagicMock(),
    "ftfy": MagicMock(),
    "regex": MagicMock(),
    "yacs": MagicMock(),
    "yacs.config": MagicMock(CfgNode=Config),
    "omegaconf": MagicMock(OmegaConf=Config),
    "utils.logger": MagicMock(),
    "torch.utils.tensorboard": MagicMock(),
}
"""The modules that the authors' code imports and does not need here."""


@dataclass
class Batches:
    """Stand-in of a data loader: the batches of one epoch after the other.

    Attributes:
        load: returns the batches of an epoch, given its number from 0.
        steps: number of batches of an epoch.
        passes: number of epochs that were loaded.
    """

    load: Callable[[int], Iterable[Batch]]
    steps: int
    passes: int = 0

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[Batch]:
        self.passes += 1
        return iter(self.load(self.passes - 1))


@dataclass
class OuterBatches:
    """The batches of one outer step after each epoch, as `MetaTrainer` draws them.

    Attributes:
        learner: the learner of rsft. If its schedule takes no outer step at the end of
            an epoch, the batches are those of its first outer step in the epoch.
        trials: number of trial steps before an outer step.
    """

    learner: Learner
    trials: int

    def load_trial(self, number: int) -> Iterator[Batch]:
        """Iterate over the one batch of a trial step."""
        objective, outer_batch = self._outer(number // self.trials)
        batches = [batch for batch, _ in objective.trial_batches] or [outer_batch]
        return iter([batches[number % self.trials % len(batches)]])

    def load_outer(self, number: int) -> Iterator[Batch]:
        """Iterate over the one batch of an outer step."""
        return iter([self._outer(number)[1]])

    def _outer(self, number: int) -> tuple[Objective, Batch]:
        """Return the objective of an outer step and its batch."""
        steps = self.learner.batches.steps(number)
        for index in (steps - 1, *range(steps - 1)):
            objective = self.learner.prepare_step(number, index)
            if objective.outer_batch is not None:
                return objective, objective.outer_batch
        raise ValueError(f"no outer step in epoch {number + 1}")


def use_frozen_network(authors: Any, task: AuthorsTask, setup: TrainingSetup) -> str:
    """Let the authors' code use the frozen weights of rsft.

    It loads SatMAE by itself, from the same file.

    Args:
        authors: their module `trainer`.
        task: what to train.
        setup: chips and network of rsft.

    Returns:
        Their name of the backbone.
    """
    recipe = load_recipe(Path(task.recipe), task.overrides)
    dtype = getattr(torch, task.dtype)

    def load_vit(name: str, precision: str) -> nn.Module:
        return load_encoder(recipe, setup.store.bands).vit.to(dtype).eval()

    authors.DDP = lambda model, **options: model
    if recipe.backbone.name != SATMAE:
        authors.load_vit_to_cpu = load_vit
        return "IN21K-ViT-B/16"
    authors.load_vit_to_cpu = lambda name, precision: authors.load_published(
        name, precision
    ).to(dtype)
    depth = len(list(setup.encoder.vit.get_submodule("blocks").children()))
    options = LARGE | {"depth": depth, "img_size": recipe.data.size, "norm_layer": NORM}
    authors.mae_vit_large_patch16 = partial(
        sys.modules["models.satmae_vit"].MaskedAutoencoderViT, **options
    )
    weights = Path("data/fmow_pretrain.pth")  # the path in their code
    weights.parent.mkdir(exist_ok=True)
    weights.unlink(missing_ok=True)
    source = Path(recipe.backbone.weights or find_weights(find_card(SATMAE)))
    if source.suffix == ".safetensors":
        torch.save({"model": read_tensors(source)[0]}, weights)
    else:
        weights.symlink_to(source.resolve())
    return "SatMAE-ViT-L/16"


def make_trainer_class(
    authors: Any, config: Config, setup: TrainingSetup, learner: Learner
) -> Any:
    """Return the class of the authors' trainer with the batches of rsft.

    Args:
        authors: their module `trainer`.
        config: their configuration.
        setup: the chips of rsft.
        learner: the batches of rsft.
    """
    is_meta = config.get("use_meta", False)
    base: Any = authors.MetaTrainer if is_meta else authors.Trainer

    def load_epoch(epoch: int) -> Iterator[Batch]:
        for batch in learner.batches.training_loader(epoch):
            yield copy_batch(batch, learner.device)

    def load_unaugmented(_: int) -> Iterator[Batch]:
        for batch in setup.train.batches(64):
            yield copy_batch(batch, learner.device)

    class TrainerOnBatches(base):  # type: ignore[misc]
        def build_data_loader(self) -> None:
            self.cls_num_list = setup.store.class_counts("train").tolist()
            self.num_classes = len(self.cls_num_list)
            labels = list(range(self.num_classes))
            self.classnames = list(map("class {}".format, labels))
            self.many_idxs = self.med_idxs = self.few_idxs = labels
            self.train_loader = Batches(load_epoch, learner.batches.steps(0))
            batches = -(-len(setup.train) // 64)
            self.train_init_loader = Batches(load_unaugmented, batches)
            self.accum_step = 1

        def _build_meta_loaders(self) -> None:
            outer = OuterBatches(learner, config.meta_inner_steps)
            self.meta_train_loader = Batches(outer.load_trial, 1)
            self.meta_val_loader = Batches(outer.load_outer, 1)

        def _meta_optimization_step(self, meters: object) -> None:
            with self.outer_step():
                super()._meta_optimization_step(meters)

        def save_model(self, folder: str) -> None: ...

        def test(self) -> None: ...

    return TrainerOnBatches


def train(trainer: Any, start: NamedTensors, every_step: bool) -> JsonObject:
    """Train from the start of rsft.

    Args:
        trainer: the authors' trainer.
        start: tensors by the names of the authors' parameters.
        every_step: whether the parameters after every step are returned; else those
            after the last one.

    Returns:
        The start that the authors' code draws, the loss and the rates of every step,
        and the parameters after it.
    """
    parameters = {
        name: x for name, x in trainer.model.named_parameters() if x.requires_grad
    }
    losses = []
    rates = []
    states: list[NamedTensors] = []

    def copy_state() -> NamedTensors:
        return {name: x.detach().clone() for name, x in parameters.items()}

    own_start = copy_state()
    with torch.no_grad():
        for name in parameters.keys() & start.keys():
            parameters[name].copy_(start[name].view_as(parameters[name]))

    is_outer = False

    @contextlib.contextmanager
    def outer_step() -> Iterator[None]:
        """Record no trial step, and the outer step with the inner step before it."""
        nonlocal is_outer
        is_outer = True
        yield
        is_outer = False
        states[-1] = copy_state()

    def record_step(*unused: object) -> None:
        if not is_outer:
            # of modules and head
            rates.append([group["lr"] for group in trainer.optim.param_groups][-2:])
            if not every_step:
                states.clear()
            states.append(copy_state())

    def record_loss(module: object, args: object, loss: Tensor) -> None:
        if not is_outer:
            losses.append(float(loss))

    trainer.outer_step = outer_step
    trainer.criterion.register_forward_hook(record_loss)
    trainer.optim.register_step_post_hook(record_step)
    trainer.train()
    return {"start": own_start, "losses": losses, "rates": rates, "states": states}


def train_task(authors: Any, config: Config, task: AuthorsTask) -> JsonObject:
    """Return the trace of a task, with the names and the axes of rsft."""
    setup, learner = task.prepare(sys.argv[2])
    tensors = learned_tensors(learner)
    names = {task.authors_name(name): name for name in tensors}
    start = {
        theirs: swap_axes(ours, tensors[ours]).contiguous()
        for theirs, ours in names.items()
    }
    torch.manual_seed(0)
    config["head_init_folder"] = "heads"
    backbone = use_frozen_network(authors, task, setup)
    settings = {"backbone": backbone, "prec": "fp32", "init_head": "class_mean"}
    config.merge(settings | {"output_dir": "output"} | dict(task.config))
    trainer_class = make_trainer_class(authors, config, setup, learner)
    if hasattr(trainer_class, "initialize"):  # metalora
        trainer = trainer_class(config, learner.device)
        trainer.initialize()
    else:
        trainer = trainer_class(config)
    if task.takes_rates:
        *modules, head = trainer.optim.param_groups
        groups = learner.loops.inner_optimizer.param_groups
        trainer.sched.base_lrs = [groups[0]["lr"]] * len(modules) + [groups[-1]["lr"]]
        for group, rate in zip([*modules, head], trainer.sched.base_lrs, strict=True):
            group["lr"] = group["initial_lr"] = rate
    result = train(trainer, start, task.every_step)
    for state in (result["start"], *result["states"]):
        for theirs in list(state):
            name = names.get(theirs, theirs)
            state[name] = swap_axes(name, state.pop(theirs).cpu())
    return result


def run_trainer() -> None:
    """Train the task of the standard input, and write result.pt."""
    checkout = sys.argv[1]
    sys.modules.update(STAND_INS)
    sys.path.insert(0, checkout)
    import trainer as authors  # type: ignore[import-not-found]

    if Path(checkout, "utils/config_omega.py").is_file():
        from utils.config_omega import cfg as config  # type: ignore[import-not-found]
    else:
        from utils.config import _C as config  # type: ignore[import-not-found]
    authors.load_published = authors.load_vit_to_cpu
    task = AuthorsTask(**json.load(sys.stdin))
    torch.save(train_task(authors, config, task), "result.pt")


if __name__ == "__main__":
    run_trainer()
