"""The forward pass of a network whose head reads only the class token."""

from typing import cast

from torch import Tensor, nn

from rsft.peft.kernels import class_token_block, is_standard_block
from rsft.peft.model.stages import ViTStages


def class_token_features(vit: nn.Module, images: Tensor) -> Tensor:
    """Return the class token after the final norm.

    A standard last block computes no other token.

    The pass uses only torch's own operators, so that `torch.export` can trace it.

    Args:
        vit: a timm vision transformer in evaluation mode.
        images: (B, P, S, S).

    Returns:
        The class token, (B, D).

    Example:
        >>> import timm, torch
        >>> vit = timm.create_model("vit_tiny_patch16_224", img_size=32).eval()
        >>> class_token_features(vit, torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 192])
    """
    stages = ViTStages(vit)
    *first_blocks, last_block = stages.blocks
    if not stages.runs_by_stage or not is_standard_block(last_block):
        return cast(Tensor, stages.vit.forward_features(images)[:, 0])
    tokens, rope = stages.embed(images)
    for index, block in enumerate(first_blocks):
        tokens = block(tokens, **stages.block_kwargs(index, rope))
    token = class_token_block(
        last_block, tokens, **stages.block_kwargs(stages.depth - 1, rope)
    )
    return stages.finish(token)[:, 0]
