"""Transformer blocks that `torch.compile` compiles for fixed shapes.

Blocks that `low_rank_block` runs share their code. Other blocks, such as those with an
AdaptFormer, are compiled one by one.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
import torch._dynamo
from torch import Tensor, nn

from rsft.peft.kernels import LowRankDelta, low_rank_block

GRAPHS = 64
"""Largest number of compiled variants: sizes of a batch, first and other blocks,
gradients of theta or of gamma, blocks that share no code."""

_log = logging.getLogger(__name__)


class CompiledBlock:
    """A block of a training step by plain autograd, compiled.

    If the first call fails, it runs without the compiler.

    Args:
        backend: of `torch.compile`.

    Attributes:
        error: why it runs without the compiler, which a warning says, too; else empty.
    """

    def __init__(self, backend: str | Callable[..., Any] = "inductor") -> None:
        self.error = ""
        self._compiled: Any = torch.compile(_run_block, backend=backend, dynamic=False)
        self._has_run = False
        torch._dynamo.config.recompile_limit = max(
            GRAPHS, torch._dynamo.config.recompile_limit
        )

    def __call__(
        self,
        block: nn.Module,
        x: Tensor,
        deltas: Mapping[str, Sequence[LowRankDelta]] | None,
        **options: Any,
    ) -> Tensor:
        """Apply a timm block with its additions.

        Args:
            block: see `low_rank_block`.
            x: tokens (B, N, D).
            deltas: see `low_rank_block`; None calls the block itself.
            options: further arguments of the call.

        Returns:
            Tokens (B, N, D).
        """
        # later errors are not those of a compiler: checkpointing ends a second pass by
        # one
        if self._has_run:
            return cast(Tensor, self._compiled(block, x, deltas, options))
        try:
            y: Tensor = self._compiled(block, x, deltas, options)
        # errors of torch's compilers, and of the folder for what they compile: the
        # block also runs without them
        except (RuntimeError, OSError) as error:
            self.error = _reason(error)
            _log.warning("the blocks are not compiled: %s", self.error)
            self._compiled = _run_block
            y = self._compiled(block, x, deltas, options)
        self._has_run = True
        return y


def _run_block(
    block: nn.Module,
    x: Tensor,
    deltas: Mapping[str, Sequence[LowRankDelta]] | None,
    options: dict[str, Any],
) -> Tensor:
    if deltas is None:
        return cast(Tensor, block(x, **options))
    return low_rank_block(block, x, deltas, kernels=False, **options)


def _reason(error: BaseException) -> str:
    """Return the first line of the compiler's error, without its own prefix."""
    while isinstance(inner := getattr(error, "inner_exception", None), BaseException):
        error = inner
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
