"""Train with the authors' trainers on the batches of runs of rsft: the process that imports their code.

    python -I tools/reproduction/authors_trainer.py CHECKOUT RECORDS RESULTS

`against_authors` starts it, writes RECORDS and reads RESULTS. Model, loss, loops, optimizers, schedules and the start
of the head are the authors'. Stand-ins replace the data sets, the tokenizer of CLIP (ftfy, regex), the reader of
configurations (yacs, OmegaConf), loggers and DDP. This file imports nothing of rsft.
"""

from __future__ import annotations

import contextlib
import copy
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import timm
import torch
from torch import Tensor, nn


class Silence:
    """Stand-in of a logger or a tokenizer: all its attributes and results are silent."""

    def __init__(self, *args: object, **options: object) -> None: ...

    def __getattr__(self, name: str) -> Silence:
        return Silence()

    def __call__(self, *args: object, **options: object) -> Silence:
        return self


class Config(dict[str, Any]):
    """Stand-in of a configuration: a dictionary whose keys are attributes."""

    __setattr__ = dict.__setitem__

    def __getattr__(self, name: str) -> Any:
        if name not in self:
            raise AttributeError(name)
        return self[name]

    @classmethod
    def create(cls, values: Any) -> Any:
        """Return nested dictionaries as configurations."""
        return cls({key: cls.create(x) for key, x in values.items()}) if isinstance(values, dict) else values

    def merge(self, values: dict[str, Any]) -> None:
        """Replace values, also in nested sections."""
        for key, value in values.items():
            if isinstance(value, dict):
                self[key].merge(value)
            else:
                self[key] = value


STAND_INS: dict[str, dict[str, Any]] = {
    "datasets": {},
    "ftfy": {},
    "regex": {"compile": Silence(), "IGNORECASE": 0},
    "yacs": {},
    "yacs.config": {"CfgNode": Config},
    "omegaconf": {"OmegaConf": Config},
    "utils.logger": {"logger": Silence()},
    "torch.utils.tensorboard": {"SummaryWriter": Silence},
}
"""Content of the modules that the authors' code does not need here."""


class Batches:
    """Stand-in of a data loader: the recorded batches of one epoch after the other."""

    def __init__(self, epochs: list[list[tuple[Tensor, Tensor]]]) -> None:
        self.epochs, self.passes = epochs, 0

    def __len__(self) -> int:
        return len(self.epochs[0])

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        self.passes += 1
        return iter(self.epochs[(self.passes - 1) % len(self.epochs)])


def build_trainer(authors: Any, config: Config, record: dict[str, Any]) -> Any:
    """Return the authors' trainer with the recorded network and batches.

    Args:
        authors: their module `trainer`.
        config: their configuration.
        record: a record of `against_authors`.
    """
    config.merge({"backbone": "IN21K-ViT-B/16", "prec": "fp32", "init_head": "class_mean", "output_dir": "output"})
    config.merge(record["config"])

    def load_vit(name: str, precision: str) -> nn.Module:
        vit: nn.Module = timm.create_model(**record["network"]).double().eval()
        vit.load_state_dict(record["weights"])
        return vit

    authors.load_vit_to_cpu, authors.DDP = load_vit, lambda model, **options: model
    is_meta = config.get("use_meta", False)

    class Recorded(authors.MetaTrainer if is_meta else authors.Trainer):  # type: ignore[misc]
        def build_data_loader(self) -> None:
            self.cls_num_list = record["counts"]
            self.num_classes = len(self.cls_num_list)
            self.classnames = [f"class {label}" for label in range(self.num_classes)]
            self.many_idxs = self.med_idxs = self.few_idxs = list(range(self.num_classes))
            self.train_loader, self.train_init_loader = Batches(record["batches"]), record["training_chips"]
            self.accum_step = 1

        def _build_meta_loaders(self) -> None:
            self.meta_train_loader, self.meta_val_loader = Batches(record["meta_train"]), Batches(record["meta_val"])

        def _meta_optimization_step(self, meters: object) -> None:
            with self.outer_step():
                super()._meta_optimization_step(meters)

        def save_model(self, folder: str) -> None: ...

        def test(self) -> None: ...

    if hasattr(authors.Trainer, "initialize"):  # metalora
        trainer = Recorded(config, torch.device("cpu"))
        trainer.initialize()
        return trainer
    return Recorded(config)


def train(trainer: Any, start: dict[str, Tensor]) -> dict[str, Any]:
    """Train from the recorded start.

    Args:
        trainer: the authors' trainer.
        start: tensors by the names of the authors' parameters.

    Returns:
        The start that the authors' code draws, the loss and the rates of every step, and the parameters after it.
    """
    parameters = {name: x for name, x in trainer.model.named_parameters() if x.requires_grad}
    losses: list[float] = []
    rates: list[list[float]] = []
    states: list[dict[str, Tensor]] = []

    def copy_state() -> dict[str, Tensor]:
        return {name: x.detach().clone() for name, x in parameters.items()}

    own_start = copy_state()
    with torch.no_grad():
        for name in parameters.keys() & start.keys():
            parameters[name].copy_(start[name].view_as(parameters[name]))

    is_outer = False

    @contextlib.contextmanager
    def outer_step() -> Iterator[None]:
        """Record no trial step, and the outer step together with the inner step before it."""
        nonlocal is_outer
        is_outer = True
        yield
        is_outer, states[-1] = False, copy_state()

    def record_step(*unused: object) -> None:
        if not is_outer:
            rates.append([group["lr"] for group in trainer.optim.param_groups][-2:])  # of modules and head
            states.append(copy_state())

    def record_loss(module: object, args: object, loss: Tensor) -> None:
        if not is_outer:
            losses.append(float(loss))

    trainer.outer_step = outer_step
    trainer.criterion.register_forward_hook(record_loss)
    trainer.optim.register_step_post_hook(record_step)
    trainer.train()
    return {"start": own_start, "losses": losses, "rates": rates, "states": states}


def main() -> None:
    """Train on each record of RECORDS, and write RESULTS."""
    checkout, records, results = sys.argv[1:]
    for name, attributes in STAND_INS.items():
        sys.modules[name] = ModuleType(name)
        sys.modules[name].__dict__.update(attributes)
    sys.path.insert(0, checkout)
    import trainer as authors  # type: ignore[import-not-found]

    if Path(checkout, "utils/config_omega.py").is_file():
        from utils.config_omega import cfg as config  # type: ignore[import-not-found]
    else:
        from utils.config import _C as config  # type: ignore[import-not-found]
    with contextlib.redirect_stdout(sys.stderr):
        trained = []
        for number, record in enumerate(torch.load(records, weights_only=True)):
            torch.manual_seed(number)
            record["config"]["head_init_folder"] = f"heads/{number}"
            trained.append(train(build_trainer(authors, copy.deepcopy(config), record), record["start"]))
    torch.save(trained, results)


if __name__ == "__main__":
    main()
