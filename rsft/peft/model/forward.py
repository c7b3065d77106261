"""The forward passes of an adapted network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self, cast

import torch
from torch import Tensor, nn

from rsft.peft.methods.adapter_module import Part
from rsft.peft.methods.low_rank import LowRank
from rsft.peft.model.stage_runner import How, Runner
from rsft.peft.model.stages import EMBEDDING
from rsft.peft.modulator import Modulator


class Passes(nn.Module):
    """A transformer and the parts that are on it, run from images, or from tokens below the first part."""

    def __init__(self, runner: Runner, parts: Sequence[Part], modulator: Modulator | None) -> None:
        super().__init__()
        self.vit = cast(nn.Module, runner.trunk.vit)
        self.additive = nn.ModuleList(parts)
        self.modulator = modulator
        self._runner = runner
        self._split: int | None = None
        self._checkpointing = False

    @property
    def parts(self) -> list[Part]:
        """The parts, in the order in which they were put on."""
        return cast(list[Part], list(self.additive))

    @property
    def theta(self) -> list[nn.Parameter]:
        """Parameters of the parts: the inner loop's."""
        return list(self.additive.parameters())

    @property
    def gamma(self) -> list[nn.Parameter]:
        """The modulator's parameter: the outer loop's, and never the inner one's."""
        return [] if self.modulator is None else [self.modulator.gamma]

    @property
    def first(self) -> int:
        """The first stage with something attached: -1 the embedding, 0 to L - 1 a block, L the norm, L + 1 none."""
        trunk = self._runner.trunk
        return min((trunk.stage_of(place) for part in self.parts for place in part.places), default=trunk.depth + 1)

    @property
    def checkpointing(self) -> bool:
        """Whether blocks keep nothing but their input and are computed again in the backward pass."""
        return self._checkpointing or bool(getattr(self.vit, "grad_checkpointing", False))

    @checkpointing.setter
    def checkpointing(self, wanted: bool) -> None:
        if wanted and not self._runner.trunk.staged:
            raise ValueError(f"{type(self.vit).__name__} cannot be run block by block, so not be checkpointed")
        self._checkpointing = wanted

    def train(self, mode: bool = True) -> Self:
        """Set the parts' mode; the transformer's own dropout and stochastic depth stay off."""
        super().train(mode)
        self.vit.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, P, S, S) -> what the transformer's head gives."""
        vit = cast(Any, self.vit)
        only_first = getattr(vit, "global_pool", None) == "token" and getattr(vit, "cls_token", None) is not None
        return cast(Tensor, vit.forward_head(self.forward_features(x, class_token_only=only_first)))

    def forward_features(self, x: Tensor, *, class_token_only: bool = False) -> Tensor:
        """Images (B, P, S, S) -> tokens (B, N, D), or the class token alone (B, 1, D), behind the final norm."""
        return self.above(self.below(x), class_token_only=class_token_only)

    @torch.no_grad()
    def below(self, x: Tensor, stage: int | None = None) -> Tensor:
        """Images (B, P, S, S) -> what a stage takes in: the first adapted one, where training changes nothing yet.

        Tokens (B, N, D); the images themselves where the embedding is trained, and in networks that carry more than
        tokens from block to block.

        Args:
            stage: another one, for networks that share what lies below it.
        """
        stop = self.first if stage is None else stage
        return self._runner.run(x, EMBEDDING, stop, How()) if self._runner.trunk.cacheable else x

    def above(self, x: Tensor, *, class_token_only: bool = False, stage: int | None = None) -> Tensor:
        """What `below` gave -> tokens (B, N, D), or the class token alone (B, 1, D), behind the final norm.

        Args:
            class_token_only: compute the last block for that token alone, where it can be.
            stage: that of `below`.

        Raises:
            ValueError: the class token of a network that has none.
        """
        if class_token_only and getattr(self.vit, "cls_token", None) is None:
            raise ValueError(f"{type(self.vit).__name__} has no class token")
        how = How(class_token_only=class_token_only, checkpointing=self.checkpointing)
        start = self.first if stage is None else stage
        if self._split is None or self._splits_rows():
            return self._above(x, start, how._replace(split=self._split))
        inner = self._above(x[: self._split], start, how._replace(held=self.gamma))
        outer = self._above(x[self._split :], start, how._replace(held=self.theta))
        return torch.cat([inner, outer])

    @contextmanager
    def joint(self, split: int) -> Iterator[None]:
        """Within it a batch is [inner ; meta]: its first `split` items give theta's gradient, the others gamma's.

        That holds for passes through here, not for the transformer run by itself.

        Raises:
            ValueError: a split below 1.
        """
        if split < 1:
            raise ValueError(f"split {split}: there must be an inner item")
        self._split = split
        try:
            yield
        finally:
            self._split = None

    def _above(self, x: Tensor, start: int, how: How) -> Tensor:
        trunk = self._runner.trunk
        tokens = self._runner.run(x, start if trunk.cacheable else EMBEDDING, trunk.depth + 1, how)
        return tokens[:, :1] if how.class_token_only else tokens

    def _splits_rows(self) -> bool:
        """Whether all that is attached are low-rank terms in lean blocks, which know `split`."""
        trunk = self._runner.trunk
        lean = trunk.staged and all(self._runner.is_lean(index) for index in range(max(self.first, 0), trunk.depth))
        return lean and all(isinstance(part, LowRank) for part in self.parts)
