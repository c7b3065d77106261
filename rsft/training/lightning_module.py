"""A recipe as a Lightning module, for those who train with Lightning's `Trainer`."""

from typing import Any, Self, cast

import torch
from lightning import LightningModule, seed_everything

from rsft.data.loading.batches import Batch, ChipLoader, UnaugmentedLoader
from rsft.errors import RequestError
from rsft.recipe.schema import Recipe
from rsft.training.assembly import make_learner
from rsft.training.fit import measure_outputs, train_on_batch
from rsft.training.init.start_bundle import StartBundle
from rsft.training.learner import Learner
from rsft.training.setup import initialize_weights, set_up


class FineTuningModule(LightningModule):
    """Lightning module that takes the steps of `rsft finetune`.

    The trainer needs `reload_dataloaders_every_n_epochs=1`, because order and
    augmentation change in every epoch, and a single device. Early stopping, checkpoints
    and trackers of the recipe are not used: the trainer has its own.

    Args:
        learner: the classifier in training.
        groups: class indices of head, medium and tail.

    Example:
        >>> from lightning import Trainer
        >>> from rsft.recipe.library import find_recipe
        >>> from rsft.recipe.load import load_recipe
        >>> overrides = ["data.root=data/ships", "train.epochs=1"]
        >>> recipe = load_recipe(find_recipe("quickstart"), overrides)
        >>> quiet = {"enable_progress_bar": False, "enable_model_summary": False}
        >>> options = {"reload_dataloaders_every_n_epochs": 1, "logger": False, **quiet}
        >>> trainer = Trainer(max_epochs=1, accelerator="cpu", **options)
        >>> trainer.fit(FineTuningModule.from_recipe(recipe))
    """

    def __init__(self, learner: Learner, groups: dict[str, list[int]]) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.classifier = learner.classifier
        self.learner = learner
        self.groups = groups
        self._outputs: list[Batch] = []
        for name, parameter in learner.loops.own_parameters.items():
            self.register_parameter(name, parameter)

    @classmethod
    def from_recipe(cls, recipe: Recipe) -> Self:
        """Open the data, build the model and initialize its head.

        The precision of the recipe must be fp32, because the trainer has its own
        precision.

        Returns:
            The module on the CPU.

        Raises:
            RequestError: data or a backbone is missing, a split has no chips, or the
                recipe has `train.ema` or `data.unlabeled`.
        """
        values = recipe.flatten()
        for key in ("train.ema", "data.unlabeled"):
            if values[key] is not None:
                raise RequestError(
                    "a Lightning module validates and stores the last weights, not"
                    " their mean",
                    key,
                    "leave the key out, or train with `rsft finetune`",
                )
        seed_everything(recipe.seed, verbose=False)
        setup = set_up(recipe, StartBundle.open(recipe))
        initialize_weights(setup)
        return cls(make_learner(setup), setup.store.group_indices)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Return the optimizers.

        Returns:
            The optimizer of theta, and with a section `meta` that of gamma.
        """
        return self.learner.loops.optimizers

    def on_fit_start(self) -> None:
        """Let the loops step through the trainer's optimizers."""
        loops = self.learner.loops
        optimizers = cast(Any, self.optimizers(use_pl_optimizer=True))
        inner, *outer = optimizers if isinstance(optimizers, list) else [optimizers]
        loops.inner_optimizer = inner
        loops.outer_optimizer = outer[0] if outer else None
        loops.backward = self.manual_backward
        for part in (self.classifier, self.classifier.adapted.vit):
            # until the first epoch: the trainer warns of modules in evaluation mode
            part.train()

    def on_train_epoch_start(self) -> None:
        """Enable dropout of the PEFT modules; the backbone stays in evaluation mode."""
        self.classifier.train()

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        """Take an inner step, and an outer step if one is due.

        Returns:
            The inner loss, a scalar.

        Raises:
            NonFiniteLossError: a loss is NaN or infinite.
        """
        return train_on_batch(self.learner, batch, self.current_epoch, batch_idx)

    def on_train_epoch_end(self) -> None:
        """Log the losses of the epoch."""
        row = self.learner.epoch_row(self.current_epoch)
        self.log_dict({name: row[name] for name in ("train_loss", "meta_loss", "lr")})

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Collect the logits of a batch."""
        inputs, labels = batch
        self._outputs.append((self.classifier(inputs).float(), labels))

    def on_validation_epoch_end(self) -> None:
        """Log loss and accuracy of the validation split."""
        self.log_dict(measure_outputs(self.learner, self._outputs, self.groups))
        self._outputs.clear()

    def train_dataloader(self) -> ChipLoader | UnaugmentedLoader:
        """Return the training batches of the current epoch."""
        return self.learner.batches.training_loader(self.current_epoch)

    def val_dataloader(self) -> UnaugmentedLoader:
        """Return the validation batches."""
        return self.learner.batches.validation_loader()
