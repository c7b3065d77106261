"""The two loops of MetaPEFT (paper, section 3.3), and the split of the chips.

The gradient of the outer loss with respect to gamma is taken at fixed theta, or through
one unrolled inner step.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import lru_cache
from itertools import chain
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.func import functional_call

from rsft.data.loading.batches import Batch
from rsft.errors import RsftError
from rsft.models.classifier import Classifier
from rsft.peft.model.stage_runner import without_gradient
from rsft.peft.sites import Site
from rsft.recipe.registries import SAMPLERS, SCHEDULES
from rsft.recipe.schema import MetaSection, TrainSection
from rsft.training.objective import Objective
from rsft.training.processes import all_reduce_mean, average_gradients
from rsft.types import Indices, Names

LossClosure = Callable[[], Tensor]
"""Computes a loss at the current parameters."""

Parameters = Sequence[nn.Parameter]
"""Theta or gamma."""

_DISTANCE = 0.001
"""Distance between theta and each point of the central difference, as a norm. DARTS
(section 2.3) takes 0.01. There the
curvature of LoRA at rank 1, scale 4 and `init: rank` changes the result by 11 to 25 %;
at 0.001 by less than 0.3 %."""


def hypergradient(
    theta: Parameters,
    gamma: Parameters,
    inner: LossClosure,
    outer: LossClosure,
    *,
    order: int,
    lr: float,
    reduce_mean: Callable[[Tensor], Tensor] = Tensor.detach,
    full_precision: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> list[Tensor]:
    """Return the gradients of the outer loss with respect to gamma.

    The first-order gradient is d outer(theta, gamma) / d gamma. The second-order
    gradient (Liu et al. 2019, DARTS, equations 7 and 8) is d outer(theta', gamma) / d
    gamma - lr * (d2 inner / d gamma d theta) (d outer / d theta') at theta' = theta -
    lr * d inner / d theta; its last product is a central difference of gradients. It
    differs by less than 1 % from the gradient through the step. Theta is restored bit
    for bit.

    Args:
        theta: parameters of the inner loop.
        gamma: parameters of the outer loop.
        inner: computes the inner loss.
        outer: computes the outer loss.
        order: 1 or 2.
        lr: learning rate of the unrolled step, which is plain gradient descent without
            momentum.
        reduce_mean: returns the mean of a tensor over the processes, each of which has
            a share of the chips. It is applied to the unrolled step and the direction,
            not to the result, which is the gradient of this process.
        full_precision: context for both gradients of the difference, which is below the
            resolution of half precision.

    Returns:
        One gradient per parameter of gamma, with the parameter's shape.
    """
    if order == 1:
        return _gradients(outer(), gamma)
    with _without_autocast_cache():
        with restore_on_exit(theta):
            step = [reduce_mean(gradient) for gradient in _gradients(inner(), theta)]
            _add_scaled(theta, step, -lr)
            gradients = _gradients(outer(), [*theta, *gamma])
        direction = gradients[: len(theta)]
        direct = gradients[len(theta) :]
        direction = [reduce_mean(gradient) for gradient in direction]
        epsilon = _DISTANCE / torch.sqrt(
            sum((x.square().sum() for x in direction), torch.tensor(1e-12))
        )
        with full_precision():
            ahead = _gradient_at(theta, gamma, inner, direction, float(epsilon))
            behind = _gradient_at(theta, gamma, inner, direction, -float(epsilon))
    mixed = [(a - b) / (2 * epsilon) for a, b in zip(ahead, behind, strict=True)]
    return [d - lr * m for d, m in zip(direct, mixed, strict=True)]


def _gradient_at(
    theta: Parameters,
    gamma: Parameters,
    loss: LossClosure,
    direction: Sequence[Tensor],
    distance: float,
) -> list[Tensor]:
    """Return the gradient by gamma at theta + distance * direction."""
    with restore_on_exit(theta):
        _add_scaled(theta, direction, distance)
        return _gradients(loss(), gamma)


def _gradients(loss: Tensor, parameters: Parameters) -> list[Tensor]:
    """Return the gradient of each parameter; zero if the loss does not depend on it."""
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    return [
        torch.zeros_like(p) if g is None else g
        for p, g in zip(parameters, gradients, strict=True)
    ]


@torch.no_grad()
def _add_scaled(
    parameters: Parameters, direction: Sequence[Tensor], distance: float
) -> None:
    for parameter, step in zip(parameters, direction, strict=True):
        parameter.add_(step, alpha=distance)


@contextmanager
def restore_on_exit(parameters: Parameters) -> Iterator[None]:
    """Restore the parameters at the end of the block."""
    originals = [parameter.detach().clone() for parameter in parameters]
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, original in zip(parameters, originals, strict=True):
                parameter.copy_(original)


@contextmanager
def _without_autocast_cache() -> Iterator[None]:
    """Let autocast convert parameters anew: its cache ignores changes of theta."""
    enabled = torch.is_autocast_cache_enabled()
    torch.set_autocast_cache_enabled(False)
    try:
        yield
    finally:
        torch.set_autocast_cache_enabled(enabled)


class NonFiniteLossError(RsftError):
    """A loss is NaN or infinite; the learner adds location and chips.

    Args:
        message: what is wrong.
        loop: "inner" or "outer".

    Attributes:
        chips: names of the chips that cause it, if known.
    """

    def __init__(self, message: str, loop: str) -> None:
        super().__init__(
            message,
            hint="lower train.lr, meta.lr or peft.scale, or set train.max_grad_norm",
        )
        self.loop = loop
        self.chips: Names = ()


class BiLevelLoop:
    """The steps of both loops: an inner step updates theta, an outer step gamma.

    `rsft.training.fit` calls them. Every process passes its own chips; gradients and
    losses are means over the processes.

    Args:
        classifier: the network.
        inner_optimizer: the optimizer of theta.
        outer_optimizer: the optimizer of gamma; None for plain PEFT.
        meta: the section `meta` of the recipe; None for plain PEFT.
        train: the section `train` of the recipe, for clipping, accumulation and
            precision. In float16, losses are scaled, so that small gradients do not
            underflow. Each loop has its own scaler, because the inner scale must not
            change while gradients accumulate.

    Attributes:
        backward: computes the gradients of a loss; Lightning's trainer has its own.
        batches_seen: number of inner batches so far. Unless it is a multiple of
            `train.accumulate_grad_batches`, theta has gradients of an unfinished step.
    """

    def __init__(
        self,
        classifier: Classifier,
        inner_optimizer: torch.optim.Optimizer,
        outer_optimizer: torch.optim.Optimizer | None,
        meta: MetaSection | None,
        train: TrainSection,
    ) -> None:
        self.classifier = classifier
        self.meta = meta
        self.inner_optimizer = inner_optimizer
        self.outer_optimizer = outer_optimizer
        self.train = train
        self.theta = classifier.theta
        self.gamma = classifier.adapted.gamma
        device = self.theta[0].device.type
        is_scaled = train.precision == "fp16"
        self.inner_scaler = GradScaler(device, enabled=is_scaled)
        self.outer_scaler = GradScaler(device, enabled=is_scaled)
        self.batches_seen = 0
        # by loop, the mean over all processes
        self._last_losses: dict[str, Tensor] = {}

    @property
    def own_parameters(self) -> dict[str, nn.Parameter]:
        """Parameters by name that no module of the classifier has."""
        return {}

    @property
    def optimizers(self) -> list[torch.optim.Optimizer]:
        """The optimizer of theta and, with an outer loop, that of gamma."""
        if not self.outer_optimizer:
            return [self.inner_optimizer]
        return [self.inner_optimizer, self.outer_optimizer]

    @property
    def is_step_unfinished(self) -> bool:
        """Whether theta has gradients of a step that needs further batches."""
        return self.batches_seen % self.train.accumulate_grad_batches != 0

    def factors(self) -> dict[Site, Tensor]:
        """Return the learned factors of every site: its scale, or one per feature.

        Without a modulator there are none.
        """
        modulator = self.classifier.adapted.modulator
        if not modulator:
            return {}
        return modulator.factors()

    def inner_step(self, batch: Batch, objective: Objective) -> Tensor:
        """Add the gradient of a batch to theta.

        Theta changes if `accumulate_grad_batches` batches are complete.

        Args:
            batch: a batch of the inner loop.
            objective: the losses of the step.

        Returns:
            The loss, a scalar.

        Raises:
            NonFiniteLossError: the loss is not finite; theta does not change.
        """
        with without_gradient(self.gamma):
            loss = self._inner_loss(batch, objective)
            self._check_finite(inner=loss)
            self._descend(loss)
        self._require_finite("inner")
        return self._last_losses["inner"]

    def outer_step(self, batch: Batch, objective: Objective) -> Tensor:
        """Update gamma by its hypergradient (paper, equations 4 and 5).

        The inner step of the same batch comes before.

        Args:
            batch: the batch of the inner step, which the second-order gradient uses.
            objective: the losses of the step, with a batch of the meta subset.

        Returns:
            The loss of the outer batch, a scalar.

        Raises:
            NonFiniteLossError: the loss is not finite; gamma does not change.
        """
        assert objective.outer_batch
        inputs, labels = objective.outer_batch

        def outer_loss() -> Tensor:
            loss = objective.outer_loss(self.classifier(inputs), labels)
            self._check_finite(outer=loss)
            return self.outer_scaler.scale(loss)

        order = self._meta.order
        with without_gradient([] if order == 2 else self.theta):
            gradients = hypergradient(
                self.theta,
                self.gamma,
                lambda: self._inner_loss(batch, objective),
                outer_loss,
                order=order,
                lr=float(self.inner_optimizer.param_groups[0]["lr"]),
                reduce_mean=all_reduce_mean,
                full_precision=self.classifier.adapted.in_full_precision,
            )
        for parameter, gradient in zip(self.gamma, gradients, strict=True):
            parameter.grad = gradient
        self._update_gamma()
        self._require_finite("outer")
        return self._last_losses["outer"]

    def joint_step(self, batch: Batch, objective: Objective) -> tuple[Tensor, Tensor]:
        """Run both batches in one pass, if the schedule is joint.

        Theta gets the gradient of the inner rows, gamma that of the outer rows.

        Args:
            batch: a batch of the inner loop.
            objective: the losses of the step, with a batch of the meta subset.

        Returns:
            The inner and the outer loss, scalars.

        Raises:
            NonFiniteLossError: a loss is not finite; no parameter changes.
        """
        assert objective.outer_batch and self.outer_optimizer
        outer_inputs, outer_labels = objective.outer_batch
        inputs = objective.inner_inputs(batch[0])
        rows = len(inputs)
        head = self.classifier.head
        with self.classifier.adapted.joint(rows):
            features = self.classifier.head_inputs(torch.cat([inputs, outer_inputs]))
        fixed_head = {name: x.detach() for name, x in head.named_parameters()}
        loss = objective.inner_loss(head(features[:rows]), batch[1])
        outer_logits = functional_call(head, fixed_head, (features[rows:],))
        outer_loss = objective.outer_loss(outer_logits, outer_labels)
        self._check_finite(inner=loss, outer=outer_loss)
        self.outer_optimizer.zero_grad()
        self._descend(loss, self.outer_scaler.scale(outer_loss))
        self._update_gamma()
        self._require_finite("inner", "outer")
        return self._last_losses["inner"], self._last_losses["outer"]

    def _inner_loss(self, batch: Batch, objective: Objective) -> Tensor:
        inputs, labels = batch
        logits = self.classifier(objective.inner_inputs(inputs))
        return objective.inner_loss(logits, labels)

    def _descend(self, loss: Tensor, scaled_outer_loss: Tensor | None = None) -> None:
        """Add the gradient of a batch to theta; step if its batches are complete.

        Args:
            loss: the inner loss.
            scaled_outer_loss: an outer loss that shares the backward pass.
        """
        if not self.is_step_unfinished:
            self.inner_optimizer.zero_grad()
        self.batches_seen += 1
        total = self.inner_scaler.scale(loss / self.train.accumulate_grad_batches)
        if scaled_outer_loss is not None:
            total = total + scaled_outer_loss
        torch.autograd.backward(total)
        if not self.is_step_unfinished:
            self._step_theta()

    def _step_theta(self, trained_too: Parameters = ()) -> None:
        average_gradients([*self.theta, *trained_too])
        self.inner_scaler.unscale_(self.inner_optimizer)
        invariant = self.meta is not None and self.meta.scale_invariant_steps
        adapted = self.classifier.adapted
        with adapted.in_function_space() if invariant else nullcontext():
            if self.train.max_grad_norm is not None:
                nn.utils.clip_grad_norm_(self.theta, self.train.max_grad_norm)
            self.inner_scaler.step(self.inner_optimizer)
            self.inner_scaler.update()

    def _update_gamma(self) -> None:
        modulator = self.classifier.adapted.modulator
        assert self.outer_optimizer and modulator
        average_gradients(self.gamma)
        self.outer_scaler.unscale_(self.outer_optimizer)
        modulator.add_decay_toward_init(self._meta.weight_decay)
        self.outer_scaler.step(self.outer_optimizer)
        self.outer_scaler.update()

    def _check_finite(self, **losses: Tensor) -> None:
        """Prevent a step of the loops if the loss of one of them is not finite.

        A fused optimizer skips its step on the device. So the program need not wait for
        the losses before it; `_require_finite` raises the error after it.

        Args:
            **losses: "inner" and "outer".

        Raises:
            NonFiniteLossError: a loss is not finite, and an optimizer is not fused.
        """
        # over the processes, so that either all or none of them stop
        means = {loop: all_reduce_mean(loss) for loop, loss in losses.items()}
        self._last_losses |= means
        groups = chain.from_iterable(x.param_groups for x in self.optimizers)
        if all(group["fused"] for group in groups):
            is_finite = torch.stack(list(means.values())).isfinite().all()
            for optimizer in cast(list[Any], self.optimizers):
                optimizer.found_inf = 1 - is_finite.float()
        else:
            self._require_finite(*losses)

    def _require_finite(self, *loops: str) -> None:
        for loop in loops:
            mean_loss = self._last_losses[loop]
            if not torch.isfinite(mean_loss):
                raise NonFiniteLossError(
                    f"the loss of the {loop} loop is {mean_loss.item()}", loop
                )

    @property
    def is_joint(self) -> bool:
        """Whether an outer step shares its pass with an inner step."""
        return self.meta is not None and SCHEDULES[self.meta.schedule].is_joint

    @property
    def _meta(self) -> MetaSection:
        assert self.meta
        return self.meta


class MetaSplitter:
    """Sampler of the meta subset and of its batches.

    The subset changes every `resplit_every` epochs.

    Every result is a function of (seed, epoch, batch number), so a run can be resumed
    at any step.

    Args:
        labels: class of every training chip (N,).
        meta: the section `meta` of the recipe. `ratio` is the share of each class in
            the meta subset; a class of two chips or more always has chips inside and
            outside of it. The sampler "random" keeps the long tail, "class-balanced"
            gives classes equal probabilities, "tail-heavy" the inverse of their
            frequency.
        batch_size: chips in a meta batch, see `outer_batch_size`.
        seed: the seed of the recipe.
    """

    def __init__(
        self, labels: Indices, meta: MetaSection, batch_size: int, seed: int
    ) -> None:
        self.labels = labels
        self.meta = meta
        self.batch_size = batch_size
        self.seed = seed
        self._cached_split = lru_cache(maxsize=1)(self._split)

    def meta_subset(self, epoch: int) -> Indices:
        """Return the meta subset of an epoch: sorted indices of training chips (M,)."""
        return self._cached_split(epoch // self.meta.resplit_every)

    def inner_subset(self, epoch: int) -> Indices:
        """Return the chips of the inner loop in an epoch: sorted indices (K,)."""
        all_chips = np.arange(len(self.labels))
        if self.meta.holdout:
            return np.setdiff1d(all_chips, self.meta_subset(epoch))
        return all_chips

    def meta_batch(self, epoch: int, index: int) -> Indices:
        """Draw a meta batch. Samplers other than "random" may draw a chip twice.

        Args:
            epoch: number of the epoch from 0.
            index: number of the inner step in the epoch from 0.

        Returns:
            Indices of at most `batch_size` training chips (B,).
        """
        subset = self.meta_subset(epoch)
        rng = np.random.default_rng((self.seed, epoch, 2, index))
        size = min(self.batch_size, len(subset))
        return SAMPLERS[self.meta.sampling]().draw(self.labels, subset, size, rng)

    def trial_batches(self, epoch: int) -> list[Indices]:
        """Draw the batches that an outer step needs beside its own.

        Args:
            epoch: number of the epoch from 0.

        Returns:
            For each batch, indices of training chips (B,); most schedules need none.
        """
        return []

    def is_due(self, epoch: int, index: int, steps: int, accumulated: int) -> bool:
        """Return whether an outer step follows an inner batch.

        Args:
            epoch: number of the epoch from 0.
            index: number of the inner batch in the epoch from 0.
            steps: number of inner batches of an epoch.
            accumulated: number of batches of an inner step.
        """
        period = self.meta.outer_every * accumulated
        # an epoch of few chips has fewer batches than a period, which then goes on in
        # the next epoch
        number = index if period <= steps else epoch * steps + index
        return (
            epoch + index / steps >= self.meta.warmup and number % period == period - 1
        )

    def _split(self, number: int) -> Indices:
        rng = np.random.default_rng((self.seed, number, 1))
        subsets = []
        for label in np.unique(self.labels):
            members = np.flatnonzero(self.labels == label)
            size = min(
                max(1, round(self.meta.ratio * len(members))), max(1, len(members) - 1)
            )
            if len(members) > 1 or not self.meta.holdout:
                subsets.append(rng.permutation(members)[:size])
        return np.sort(np.concatenate(subsets))


def outer_batch_size(meta: MetaSection, train: TrainSection) -> int:
    """Return the number of chips in an outer step.

    It is `meta.batch_size` if that is set, else `train.batch_size`. With the joint
    schedule the default is the number with which an epoch uses each chip of the meta
    subset about once.
    """
    if meta.batch_size is not None or not SCHEDULES[meta.schedule].is_joint:
        return meta.batch_size or train.batch_size
    inner_share = 1 - meta.ratio if meta.holdout else 1.0
    inner_chips = train.batch_size * train.accumulate_grad_batches * meta.outer_every
    return max(1, round(inner_chips * meta.ratio / inner_share))
