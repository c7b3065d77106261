"""The stages of a timm transformer.

-1 is the embedding, 0 to L - 1 are the blocks, and L is the final norm.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from rsft.peft.modules.adapter_module import named_blocks, transformer_blocks

EMBEDDING = -1
"""The stage of the embedding."""


_LAST_MODULES = (
    "norm",
    "fc_norm",
    "attn_pool",
    "blocks_token_only",
    "head",
    "head_dist",
    "fc",
    "classifier",
)


class EmbeddedTokens(NamedTuple):
    """Output of the embedding: tokens (B, N, D), and rotary embeddings if any."""

    x: Tensor
    rope: Tensor | None = None


def _embed_vit(vit: Any, images: Tensor) -> EmbeddedTokens:
    return EmbeddedTokens(
        vit.norm_pre(vit.patch_drop(vit._pos_embed(vit.patch_embed(images))))
    )


def _embed_eva(vit: Any, images: Tensor) -> EmbeddedTokens:
    x, rope = vit._pos_embed(vit.patch_embed(images))
    return EmbeddedTokens(vit.norm_pre(x), rope)


def _embed_cait(vit: Any, images: Tensor) -> EmbeddedTokens:
    return EmbeddedTokens(vit.pos_drop(vit.patch_embed(images) + vit.pos_embed))


def _normalize(vit: Any, x: Tensor) -> Tensor:
    return cast(Tensor, vit.norm(x))


def _finish_cait(vit: Any, x: Tensor) -> Tensor:
    """Let the class token attend to the patch tokens, and normalize both."""
    token = vit.cls_token.expand(x.shape[0], -1, -1)
    for block in vit.blocks_token_only:
        token = block(x, token)
    return cast(Tensor, vit.norm(torch.cat((token, x), dim=1)))


class _Steps(NamedTuple):
    """What a network does before and after its blocks."""

    embed: Callable[[Any, Tensor], EmbeddedTokens]
    finish: Callable[[Any, Tensor], Tensor]


_STEPS = {
    "timm.models.vision_transformer.VisionTransformer.forward_features": _Steps(
        _embed_vit, _normalize
    ),
    "timm.models.eva.Eva.forward_features": _Steps(_embed_eva, _normalize),
    "timm.models.cait.Cait.forward_features": _Steps(_embed_cait, _finish_cait),
}


class ViTStages:
    """The stages of a vision transformer.

    Args:
        vit: a timm vision transformer.

    Attributes:
        blocks: the transformer blocks.
        runs_by_stage: whether the network can be run stage by stage: its
            `forward_features` is that of timm's VisionTransformer, Eva or Cait.

    Raises:
        ValueError: the network has no blocks.
    """

    def __init__(self, vit: nn.Module) -> None:
        self.vit = cast(Any, vit)
        self.blocks = transformer_blocks(vit)
        self._paths = tuple(named_blocks(vit))
        forward = getattr(type(vit), "forward_features", None)
        self._steps = _STEPS.get(
            f"{getattr(forward, '__module__', '')}"
            f".{getattr(forward, '__qualname__', '')}"
        )
        self.runs_by_stage = self._steps is not None

    @property
    def depth(self) -> int:
        """The number of blocks, L."""
        return len(self.blocks)

    def stage_of(self, placement: str) -> int:
        """Return the stage of a site, module or parameter.

        Args:
            placement: dotted name, such as "blocks.3.q", or "layer2.0.conv1.weight" of
                a network without `blocks`.
        """
        first, _, remainder = placement.partition(".")
        if first == "blocks":
            return int(remainder.partition(".")[0])
        for stage, path in enumerate(self._paths):
            if f"{placement}.".startswith(f"{path}."):
                return stage
        if first in _LAST_MODULES:
            return self.depth
        return EMBEDDING

    def embed(self, images: Tensor) -> EmbeddedTokens:
        """Run the embedding.

        Args:
            images: (B, P, S, S).

        Returns:
            Tokens (B, N, D), and rotary embeddings or None.
        """
        assert self._steps
        return self._steps.embed(self.vit, images)

    def finish(self, x: Tensor) -> Tensor:
        """Run the final norm, after the class attention of CaiT.

        Args:
            x: tokens (B, N, D) after the last block.

        Returns:
            Tokens (B, N, D).
        """
        assert self._steps
        return self._steps.finish(self.vit, x)

    def can_cache_tokens(self, images: Tensor) -> bool:
        """Return whether the network can run from a stage's tokens, without images.

        Rotary embeddings depend on the size of the images. From tokens, they are only
        known for the network's own size.

        Args:
            images: (B, P, S, S).
        """
        if getattr(self.vit, "rope", None) is None:
            return self.runs_by_stage
        return (
            self.runs_by_stage
            and tuple(images.shape[-2:]) == self.vit.patch_embed.img_size
        )

    def rotary_embedding(self) -> Tensor | None:
        """Return the rotary embeddings at the network's own size; None without any."""
        rope = getattr(self.vit, "rope", None)
        if rope is None:
            return None
        has_size = getattr(rope, "feat_shape", None) is not None
        return cast(
            Tensor,
            (
                rope.get_embed()
                if has_size
                else rope.get_embed(shape=self.vit.patch_embed.grid_size)
            ),
        )

    def block_kwargs(self, block: int, rope: Tensor | None) -> dict[str, Tensor]:
        """Return the arguments of a block besides its tokens.

        Args:
            block: index of the block.
            rope: rotary embeddings from `embed`.

        Returns:
            Keyword arguments.
        """
        if rope is None:
            return {}
        return {"rope": rope[block] if getattr(self.vit, "rope_mixed", False) else rope}
