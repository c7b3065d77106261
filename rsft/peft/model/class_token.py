"""The forward pass of a network whose head reads only the class token."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from rsft.peft.kernels import class_token_block, unsupported_reason
from rsft.peft.model.stages import ViTStages


def class_token_features(vit: nn.Module, images: Tensor) -> Tensor:
    """Return the class token after the final norm; a standard last block computes no other token.

    The pass uses only torch's own operators, so that `torch.export` can trace it.

    Args:
        vit: a timm vision transformer in evaluation mode.
        images: (B, P, S, S).

    Returns:
        The class token, (B, D).
    """
    stages = ViTStages(vit)
    *first_blocks, last_block = stages.blocks
    if not stages.passes_tokens_only or unsupported_reason(last_block) is not None:
        return cast(Tensor, stages.vit.forward_features(images)[:, 0])
    tokens = stages.embed(images).x
    for block in first_blocks:
        tokens = block(tokens)
    return cast(Tensor, stages.vit.norm(class_token_block(last_block, tokens))[:, 0])
