"""The stages of a timm transformer: -1 is the embedding, 0 to L - 1 are the blocks, L is the final norm."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, cast

from torch import Tensor, nn

from rsft.peft.modules.target_layers import transformer_blocks

EMBEDDING = -1
"""The stage of the embedding."""


class EmbeddedTokens(NamedTuple):
    """Output of the embedding: tokens (B, N, D), and rotary embeddings where the network has them."""

    x: Tensor
    rope: Tensor | None = None


def _embed_vit(vit: Any, images: Tensor) -> EmbeddedTokens:
    return EmbeddedTokens(vit.norm_pre(vit.patch_drop(vit._pos_embed(vit.patch_embed(images)))))


def _embed_eva(vit: Any, images: Tensor) -> EmbeddedTokens:
    x, rope = vit._pos_embed(vit.patch_embed(images))
    return EmbeddedTokens(vit.norm_pre(x), rope)


_EMBED: dict[str, Callable[[Any, Tensor], EmbeddedTokens]] = {
    "timm.models.vision_transformer.VisionTransformer.forward_features": _embed_vit,
    "timm.models.eva.Eva.forward_features": _embed_eva,
}


class ViTStages:
    """The stages of a vision transformer.

    Args:
        vit: a timm vision transformer.

    Attributes:
        blocks: the transformer blocks.
        runs_by_stage: whether the network can be run stage by stage: its `forward_features` is that of timm's
            VisionTransformer or Eva.
        passes_tokens_only: whether only tokens pass from one stage to the next, so that they can be cached. False for
            networks with rotary embeddings, which the blocks need as well.

    Raises:
        ValueError: the network has no blocks.
    """

    def __init__(self, vit: nn.Module) -> None:
        self.vit = cast(Any, vit)
        self.blocks = transformer_blocks(vit)
        forward = getattr(type(vit), "forward_features", None)
        self._embed = _EMBED.get(f"{getattr(forward, '__module__', '')}.{getattr(forward, '__qualname__', '')}")
        self.runs_by_stage = self._embed is not None
        self.passes_tokens_only = self._embed is _embed_vit

    @property
    def depth(self) -> int:
        """The number of blocks, L."""
        return len(self.blocks)

    def stage_of(self, placement: str) -> int:
        """Return the stage of a site, module or parameter.

        Args:
            placement: dotted name, such as "blocks.3.q".
        """
        first, _, remainder = placement.partition(".")
        if first == "blocks":
            return int(remainder.partition(".")[0])
        return self.depth if first in ("norm", "fc_norm", "attn_pool") else EMBEDDING

    def embed(self, images: Tensor) -> EmbeddedTokens:
        """Run the embedding.

        Args:
            images: (B, P, S, S).

        Returns:
            Tokens (B, N, D), and rotary embeddings or None.
        """
        assert self._embed is not None
        return self._embed(self.vit, images)

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
