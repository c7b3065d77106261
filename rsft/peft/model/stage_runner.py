"""Runs a network stage by stage, its frozen blocks through the lean path, checkpointed if wanted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from rsft.peft.kernels import Term, lean_block, why_not_lean
from rsft.peft.methods.low_rank import AdaptedLinear
from rsft.peft.model.stages import EMBEDDING, Trunk

_LAYERS = {"qkv": "attn.qkv", "proj": "attn.proj", "fc1": "mlp.fc1", "fc2": "mlp.fc2"}


class How(NamedTuple):
    """How a batch is run.

    Attributes:
        split: rows before it give the gradient of theta, the others that of gamma; for low-rank terms alone.
        held: parameters that take no gradient.
        class_token_only: the last block computes the class token alone where it can.
        checkpointing: blocks keep their input and are computed again in the backward pass.
    """

    split: int | None = None
    held: Sequence[nn.Parameter] = ()
    class_token_only: bool = False
    checkpointing: bool = False


class Runner:
    """Runs the stages of a trunk.

    Made before anything is put on the network: that is when the kind of a block can be told.
    """

    def __init__(self, trunk: Trunk) -> None:
        self.trunk = trunk
        self._standard = [why_not_lean(block) is None for block in trunk.blocks]
        self._again = False  # whether a checkpointed block is being computed for the second time

    def is_lean(self, index: int) -> bool:
        """Whether a block runs through `lean_block`: a standard one with frozen parameters and nothing hooked on."""
        block = self.trunk.blocks[index]
        frozen = not any(parameter.requires_grad for parameter in block.parameters())
        return self._standard[index] and frozen and not _is_hooked(block)

    def run(self, x: Tensor, start: int, stop: int, how: How) -> Tensor:
        """The stages from `start` up to `stop`: images (B, P, S, S) if they begin with the embedding, else tokens.

        A network that is not staged runs as a whole.
        """
        rope: Tensor | None = None
        with without_gradient(how.held):
            if not self.trunk.staged:
                return cast(Tensor, self.trunk.vit.forward_features(x))
            for stage in range(start, stop):
                if stage == EMBEDDING:
                    x, rope = self.trunk.embed(x)
                elif stage < self.trunk.depth:
                    x = self._block(stage, x, rope, how)
                else:
                    x = self.trunk.vit.norm(x)
        return x

    def _block(self, index: int, x: Tensor, rope: Tensor | None, how: How) -> Tensor:
        block = self.trunk.blocks[index]
        only_first = how.class_token_only and index == self.trunk.depth - 1

        def forward(x: Tensor) -> Tensor:
            if (torch.is_grad_enabled() or only_first) and self.is_lean(index):
                options: dict[str, Any] = {"split": how.split, "class_token_only": only_first, "read": not self._again}
                return lean_block(block, x, _terms(block), training=True, **options)
            return cast(Tensor, block(x, **self.trunk.keywords(index, rope)))

        if not (how.checkpointing and torch.is_grad_enabled()):
            return forward(x)
        again = self._second_time(how.held)
        return cast(Tensor, checkpoint(forward, x, use_reentrant=False, context_fn=lambda: (nullcontext(), again)))

    @contextmanager
    def _second_time(self, held: Sequence[nn.Parameter]) -> Iterator[None]:
        """The second forward runs in the backward pass, outside of `run`, and nobody reads what it gives."""
        self._again = True
        try:
            with without_gradient(held):
                yield
        finally:
            self._again = False


@contextmanager
def without_gradient(parameters: Sequence[nn.Parameter]) -> Iterator[None]:
    """Within it `parameters` are constants."""
    before = [parameter.requires_grad for parameter in parameters]
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter, required in zip(parameters, before, strict=True):
            parameter.requires_grad_(required)


def _terms(block: nn.Module) -> dict[str, list[Term]]:
    layers = {name: block.get_submodule(path) for name, path in _LAYERS.items()}
    return {name: layer.terms() for name, layer in layers.items() if isinstance(layer, AdaptedLinear)}


def _is_hooked(block: nn.Module) -> bool:
    return any(module._forward_hooks or module._forward_pre_hooks for module in block.modules())
