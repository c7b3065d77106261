"""Record the outputs of transformer blocks during a forward pass."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from torch import Tensor, nn

from rsft.peft.modules.adapter_module import Tensors, transformer_blocks


@contextmanager
def record_block_outputs(
    vit: nn.Module, blocks: Sequence[int]
) -> Iterator[list[Tensor]]:
    """Record the outputs of blocks in one forward pass of a whole network.

    The hooks are plain Python, so `torch.export` traces through them.
    `AdaptedModel.run_suffix_with_blocks` does without them where it can, because the
    training kernels skip blocks with hooks.

    Args:
        vit: a timm vision transformer.
        blocks: indices of the blocks, rising.

    Yields:
        The list that the pass fills with tokens (B, N, D), one tensor per block.
    """
    outputs: list[Tensor] = []
    modules = transformer_blocks(vit)
    handles = [
        modules[block].register_forward_hook(partial(append_output, outputs))
        for block in blocks
    ]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


def append_output(
    outputs: list[Tensor], module: nn.Module, args: Tensors, output: Tensor
) -> None:
    """Store an output, as a forward hook with the list as its first argument."""
    outputs.append(output)
