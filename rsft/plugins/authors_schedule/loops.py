"""The outer loop as the paper's code runs it.

It is MetaTrainer in trainer.py of https://github.com/doem97/metalora.

It is a reference. The paper's text describes another loop,
`rsft.training.meta.bilevel`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from rsft.data.loading.batches import Batch
from rsft.models.classifier import Classifier
from rsft.peft.model.adapted_model import AdaptedModel
from rsft.peft.model.stage_runner import without_gradient
from rsft.peft.modulator import Modulator
from rsft.peft.modules.scaled import BottleneckMlp, LowRankModule
from rsft.peft.sites import Site
from rsft.recipe.registries import LossFunction
from rsft.recipe.schema import MetaSection, TrainSection
from rsft.training.meta.bilevel import (
    BiLevelLoop,
    MetaSplitter,
    restore_on_exit,
)
from rsft.training.objective import Objective, widen
from rsft.training.processes import average_gradients
from rsft.types import Indices


class MetaloraLoop(BiLevelLoop):
    """The loops of metalora's MetaTrainer on LoRA, LoTR, Adapter or AdaptFormer.

    LoRA and LoTR have one learned alpha for each site, which acts as the scale alpha /
    r. Adapter and AdaptFormer have one for each output feature, which is the factor of
    that feature. Alpha acts in outer steps only, in place of all other scales. All
    other passes have the constant factors of the modulator, at which alpha starts;
    AdaptFormer may also have a scale of its own (`peft.scale: learnable`), which those
    passes train. An outer step has these parts:

    1. Trial steps: the inner optimizer takes one step on theta and alpha for each batch
       of `trial_batches`.
    2. SGD takes one step on alpha by the gradient of the outer loss at the new theta,
       without dropout.
    3. The modules are restored. The head and the momentum of the inner optimizer keep
       what the trial steps did.

    The arguments are those of `BiLevelLoop`, without `outer_optimizer`. Theta and alpha
    have the same learning rate, momentum and weight decay in the trial steps.
    """

    def __init__(
        self,
        classifier: Classifier,
        inner_optimizer: torch.optim.Optimizer,
        meta: MetaSection,
        train: TrainSection,
    ) -> None:
        adapted = classifier.adapted
        self._modulator = cast(Modulator, adapted.modulator)
        ranks = {}
        for module in adapted.adapter_modules:
            if isinstance(module, LowRankModule):
                for site in module.sites:
                    ranks[site] = float(len(module.factors(site)[0]))
        factors = self._modulator.factors()
        parts = [
            torch.full_like(x, ranks.get(site, 1.0)) for site, x in factors.items()
        ]
        self._ranks = torch.cat(parts)  # 1 at a pruned site and at a bottleneck
        self.alpha = nn.Parameter(torch.cat(list(factors.values())) * self._ranks)
        group = inner_optimizer.param_groups[0]
        settings = {key: group[key] for key in ("lr", "weight_decay")}
        inner_optimizer.add_param_group({"params": [self.alpha], **settings})
        outer_optimizer = torch.optim.SGD(
            [self.alpha],
            lr=meta.lr,
            momentum=inner_optimizer.defaults["momentum"],
            weight_decay=meta.weight_decay,
        )
        super().__init__(classifier, inner_optimizer, outer_optimizer, meta, train)
        self._modulator.gamma.requires_grad_(False)
        self.gamma = [self.alpha]

    @property
    def own_parameters(self) -> dict[str, nn.Parameter]:
        return {"alpha": self.alpha}

    def factors(self) -> dict[Site, Tensor]:
        """Return the factors alpha / r, which act in outer steps only."""
        return self._modulator.by_site((self.alpha / self._ranks).detach())

    def outer_step(self, batch: Batch, objective: Objective) -> Tensor:
        """Update alpha, and the head by the trial steps.

        Args:
            batch: not used.
            objective: losses and trial batches of the step, and a batch of the second
                half of the meta subset.

        Returns:
            The loss of the outer batch, a scalar.

        Raises:
            NonFiniteLossError: a loss is not finite; the modules do not change.
        """
        assert self.outer_optimizer is not None and objective.outer_batch is not None
        with restore_on_exit(self.classifier.adapted.theta):
            for trial_batch, weight in objective.trial_batches:
                self.inner_optimizer.zero_grad()
                with self._alpha_as_factors():
                    loss = self._loss(trial_batch, objective.inner, weight)
                    torch.autograd.backward(self.inner_scaler.scale(loss))
                self._step_theta(self.gamma)
            self.classifier.eval()
            with without_gradient(self.theta), self._alpha_as_factors():
                weight = objective.outer_weight
                loss = self._loss(objective.outer_batch, objective.outer, weight)
                scaled_loss = self.outer_scaler.scale(loss)
                (self.alpha.grad,) = torch.autograd.grad(scaled_loss, self.gamma)
            self.classifier.train()
            average_gradients(self.gamma)
            self.outer_scaler.unscale_(self.outer_optimizer)
            self.outer_scaler.step(self.outer_optimizer)
            self.outer_scaler.update()
        return self._last_losses["outer"]

    def _loss(self, batch: Batch, loss_function: LossFunction, weight: float) -> Tensor:
        inputs, labels = batch
        loss = loss_function(widen(self.classifier(inputs)), labels)
        loss = loss * weight
        self._check_finite(outer=loss)
        return loss

    @contextmanager
    def _alpha_as_factors(self) -> Iterator[None]:
        """Let the factors be alpha / r, also where checkpointed blocks run again."""
        with (
            self._modulator.use_factors(self.alpha / self._ranks),
            _without_scales(self.classifier.adapted),
        ):
            yield


@contextmanager
def _without_scales(adapted: AdaptedModel) -> Iterator[None]:
    """Take the learned scales of bottlenecks out of the network for a block."""
    modules = [x for x in adapted.additive.modules() if isinstance(x, BottleneckMlp)]
    scales = [module.scale for module in modules]
    for module in modules:
        module.scale = None
    try:
        yield
    finally:
        for module, scale in zip(modules, scales, strict=True):
            module.scale = scale


class MetaloraSplitter(MetaSplitter):
    """One random split of the training chips for the whole run, without strata.

    The inner loop has the share 1 - `ratio`. Half of the rest is for the trial steps,
    half for the outer batches.
    """

    def meta_subset(self, epoch: int) -> Indices:
        return np.sort(np.concatenate(self._halves()))

    def meta_batch(self, epoch: int, index: int) -> Indices:
        """Draw the outer batch of an epoch: indices of training chips (B,)."""
        return self._draw(self._halves()[1], (epoch, 2, index))

    def is_due(self, epoch: int, index: int, steps: int, accumulated: int) -> bool:
        return index == steps - 1 and epoch + 1 >= self.meta.warmup

    def trial_batches(self, epoch: int) -> list[Indices]:
        """Draw the trial batches of an epoch: indices of training chips (B,)."""
        half = self._halves()[0]
        return [
            self._draw(half, (epoch, 3, number))
            for number in range(self.meta.outer_every)
        ]

    def _draw(self, half: Indices, entropy: tuple[int, ...]) -> Indices:
        rng = np.random.default_rng((self.seed, *entropy))
        return rng.permutation(half)[: self.batch_size]

    def _halves(self) -> tuple[Indices, Indices]:
        count = len(self.labels)
        order = np.random.default_rng((self.seed, 0, 1)).permutation(count)
        inner = min(int(count * (1 - self.meta.ratio)), count - 2)
        middle = inner + max(1, int(count * self.meta.ratio / 2))
        return order[inner:middle], order[middle:]
