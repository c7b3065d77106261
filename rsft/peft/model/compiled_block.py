"""Transformer blocks that `torch.compile` compiles for fixed shapes.

Blocks that `low_rank_block` runs share their code. Other blocks, such as those with an
AdaptFormer, are compiled one by one.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
import torch._dynamo
from torch import Tensor, nn
from torch._dynamo.exc import TorchDynamoException

from rsft.errors import RequestError
from rsft.peft.kernels import LowRankDelta, low_rank_block

GRAPHS = 64
"""Largest number of compiled variants: sizes of a batch, first and other blocks,
gradients of theta or of gamma, blocks that share no code."""


class CompiledBlock:
    """A block of a training step by plain autograd, compiled.

    Args:
        backend: of `torch.compile`.
    """

    def __init__(self, backend: str | Callable[..., Any] = "inductor") -> None:
        self._compiled: Any = torch.compile(_run_block, backend=backend, dynamic=False)
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

        Raises:
            RequestError: this machine cannot compile the block.
        """
        try:
            return cast(Tensor, self._compiled(block, x, deltas, options))
        except TorchDynamoException as error:
            raise RequestError(
                f"the blocks cannot be compiled: {error}",
                "train.compile",
                "install a C++ compiler, or set train.compile=false",
            ) from error


def _run_block(
    block: nn.Module,
    x: Tensor,
    deltas: Mapping[str, Sequence[LowRankDelta]] | None,
    options: dict[str, Any],
) -> Tensor:
    if deltas is None:
        return cast(Tensor, block(x, **options))
    return low_rank_block(block, x, deltas, kernels=False, **options)
