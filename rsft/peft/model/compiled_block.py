"""Transformer blocks that `torch.compile` compiles for fixed shapes.

The blocks of a network share the code.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch._dynamo
from torch import Tensor, nn

from rsft.peft.kernels import LowRankDelta, low_rank_block

GRAPHS = 32
"""Largest number of compiled variants: sizes of a batch, first and other blocks,
gradients of theta or of gamma."""

_log = logging.getLogger(__name__)


class CompiledBlock:
    """`low_rank_block` by plain autograd, compiled.

    If the first call fails, it runs without the compiler.

    Args:
        backend: of `torch.compile`.

    Attributes:
        error: why it runs without the compiler, which a warning says, too; else empty.
    """

    def __init__(self, backend: str | Callable[..., Any] = "inductor") -> None:
        self.error = ""
        self._compiled: Any = torch.compile(
            low_rank_block, backend=backend, dynamic=False
        )
        self._has_run = False
        torch._dynamo.config.recompile_limit = max(
            GRAPHS, torch._dynamo.config.recompile_limit
        )

    def __call__(
        self,
        block: nn.Module,
        x: Tensor,
        deltas: Mapping[str, Sequence[LowRankDelta]],
        **options: Any,
    ) -> Tensor:
        """Apply a frozen timm block with low-rank additions.

        Args:
            block: see `low_rank_block`.
            x: tokens (B, N, D).
            deltas: see `low_rank_block`.
            options: see `low_rank_block`.

        Returns:
            Tokens (B, N, D).
        """
        options |= {"kernels": False, "needs_output": True}
        # later errors are not those of a compiler: checkpointing ends a second pass by
        # one
        if self._has_run:
            return self._run(block, x, deltas, options)
        try:
            y = self._run(block, x, deltas, options)
        # errors of torch's compilers, and of the folder for what they compile: the
        # block also runs without them
        except (RuntimeError, OSError) as error:
            self.error = _reason(error)
            _log.warning("the blocks are not compiled: %s", self.error)
            self._compiled = low_rank_block
            y = self._run(block, x, deltas, options)
        self._has_run = True
        return y

    def _run(
        self,
        block: nn.Module,
        x: Tensor,
        deltas: Mapping[str, Sequence[LowRankDelta]],
        options: dict[str, Any],
    ) -> Tensor:
        y: Tensor = self._compiled(block, x, deltas, **options)
        return y


def _reason(error: BaseException) -> str:
    """Return the first line of the compiler's error, without its own prefix."""
    while isinstance(inner := getattr(error, "inner_exception", None), BaseException):
        error = inner
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
