"""Run a network stage by stage, frozen standard blocks by `low_rank_block`.

Checkpointing is optional.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from rsft.peft.kernels import (
    LAYER_PATHS,
    LowRankDelta,
    is_standard_block,
    low_rank_block,
)
from rsft.peft.model.block_outputs import record_block_outputs
from rsft.peft.model.stages import EMBEDDING, ViTStages
from rsft.peft.modules.adapter_module import Tensors
from rsft.peft.modules.scaled import LowRankLinear

if TYPE_CHECKING:
    from rsft.peft.model.compiled_block import CompiledBlock


class ForwardOptions(NamedTuple):
    """How to run a batch.

    Attributes:
        split: items before it give the gradient of theta, the others that of gamma; for
            low-rank additions only.
        no_grad_parameters: parameters that get no gradient.
        class_token_only: compute only the class token in the last block, if that is a
            standard block.
        checkpointing: store only the input of each block and compute the block again in
            the backward pass.
        output_blocks: blocks whose output is returned beside that of the last stage;
            the first stage of the pass is at most the one after each of them.
    """

    split: int | None = None
    no_grad_parameters: Sequence[nn.Parameter] = ()
    class_token_only: bool = False
    checkpointing: bool = False
    output_blocks: tuple[int, ...] = ()


class StageRunner:
    """Runner of the stages of a vision transformer.

    Create it before modules are injected: injected layers make a standard block look
    like another one.

    Args:
        stages: the stages of the network.
        kernels: use hand-written gradients (True) or plain autograd (False); None
            decides by the device.

    Attributes:
        compiled: runs the blocks of a training step that need all tokens; None runs
            them without `torch.compile`.
    """

    def __init__(self, stages: ViTStages, kernels: bool | None = None) -> None:
        self.stages = stages
        self.kernels = kernels
        self.compiled: CompiledBlock | None = None
        self._is_standard = list(map(is_standard_block, stages.blocks))
        self._is_recomputing = (
            False  # whether a checkpointed block is being computed for the second time
        )

    def uses_kernel(self, index: int) -> bool:
        """Return whether `low_rank_block` runs a block.

        The block must be standard, frozen and without hooks.

        Args:
            index: the index of the block.
        """
        block = self.stages.blocks[index]
        is_frozen = not any(parameter.requires_grad for parameter in block.parameters())
        is_hooked = any(
            x._forward_hooks or x._forward_pre_hooks for x in block.modules()
        )
        return self._is_standard[index] and is_frozen and not is_hooked

    def run(self, x: Tensor, start: int, stop: int, options: ForwardOptions) -> Tensors:
        """Run the stages from `start` up to, but not including, `stop`.

        A network that cannot be run stage by stage runs as a whole.

        Args:
            x: images (B, P, S, S) if `start` is the embedding, else tokens (B, N, D).
            start: first stage.
            stop: stage after the last one.
            options: how to run the batch.

        Returns:
            Tokens (B, N, D), then those after each block of `options.output_blocks`.
        """
        outputs = {}
        with without_gradient(options.no_grad_parameters):
            if not self.stages.runs_by_stage:
                with record_block_outputs(
                    self.stages.vit, options.output_blocks
                ) as recorded:
                    x = cast(Tensor, self.stages.vit.forward_features(x))
                return x, *recorded
            if start == EMBEDDING:
                rope = None
            else:
                rope = self.stages.rotary_embedding()
            for stage in range(start, stop):
                if stage - 1 in options.output_blocks:
                    outputs[stage - 1] = x
                if stage == EMBEDDING:
                    x, rope = self.stages.embed(x)
                elif stage < self.stages.depth:
                    x = self._run_block(stage, x, rope, options)
                else:
                    x = self.stages.finish(x)
        return x, *(outputs[block] for block in options.output_blocks)

    def _run_block(
        self, index: int, x: Tensor, rope: Tensor | None, options: ForwardOptions
    ) -> Tensor:
        block = self.stages.blocks[index]
        class_token_only = options.class_token_only and index == self.stages.depth - 1
        block_kwargs = self.stages.block_kwargs(index, rope)

        def forward(x: Tensor) -> Tensor:
            is_training = torch.is_grad_enabled()
            if (is_training or class_token_only) and self.uses_kernel(index):
                deltas = _deltas_by_layer(block)
                if self.compiled and not class_token_only:
                    return self.compiled(
                        block, x, deltas, **block_kwargs, split=options.split
                    )
                return low_rank_block(
                    block,
                    x,
                    deltas,
                    **block_kwargs,
                    split=options.split,
                    class_token_only=class_token_only,
                    needs_output=not self._is_recomputing,
                    kernels=self.kernels,
                )
            if is_training and self.compiled:
                return self.compiled(block, x, None, **block_kwargs)
            return cast(Tensor, block(x, **block_kwargs))

        if not (options.checkpointing and torch.is_grad_enabled()):
            return forward(x)
        recompute = self._recompute(options.no_grad_parameters)
        return cast(
            Tensor,
            checkpoint(
                forward,
                x,
                use_reentrant=False,
                context_fn=lambda: (nullcontext(), recompute),
            ),
        )

    @contextmanager
    def _recompute(self, no_grad_parameters: Sequence[nn.Parameter]) -> Iterator[None]:
        """Mark the recomputation of a block in the backward pass.

        It runs outside of `run`, and its output is unused.
        """
        self._is_recomputing = True
        try:
            with without_gradient(no_grad_parameters):
                yield
        finally:
            self._is_recomputing = False


@contextmanager
def without_gradient(parameters: Sequence[nn.Parameter]) -> Iterator[None]:
    """Treat parameters as constants within the context.

    Args:
        parameters: parameters that get no gradient within the context.

    Yields:
        Nothing.
    """
    previous = [parameter.requires_grad for parameter in parameters]
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter, requires_grad in zip(parameters, previous, strict=True):
            parameter.requires_grad_(requires_grad)


def _deltas_by_layer(block: nn.Module) -> dict[str, list[LowRankDelta]]:
    modules = dict(block.named_modules())
    layers = {name: modules.get(path) for name, path in LAYER_PATHS.items()}
    return {
        name: layer.deltas()
        for name, layer in layers.items()
        if isinstance(layer, LowRankLinear)
    }
