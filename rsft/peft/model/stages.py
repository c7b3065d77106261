"""How a timm transformer is run: stage -1 embeds, stages 0 to L - 1 are the blocks, stage L is the final norm."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, cast

from torch import Tensor, nn

from rsft.peft.sites import blocks_of

EMBEDDING = -1


class Tokens(NamedTuple):
    """What the embedding gives: tokens (B, N, D), and rotary embeddings where the network has them."""

    x: Tensor
    rope: Tensor | None = None


def _embed_vit(vit: Any, images: Tensor) -> Tokens:
    return Tokens(vit.norm_pre(vit.patch_drop(vit._pos_embed(vit.patch_embed(images)))))


def _embed_eva(vit: Any, images: Tensor) -> Tokens:
    x, rope = vit._pos_embed(vit.patch_embed(images))
    return Tokens(vit.norm_pre(x), rope)


_EMBED: dict[str, Callable[[Any, Tensor], Tokens]] = {
    "timm.models.vision_transformer.VisionTransformer.forward_features": _embed_vit,
    "timm.models.eva.Eva.forward_features": _embed_eva,
}


class Trunk:
    """The stages of a network.

    Attributes:
        blocks: the transformer blocks.
        staged: whether it can be run stage by stage: its `forward_features` is that of timm's VisionTransformer or Eva.
        cacheable: whether tokens alone carry it from one stage to the next; rotary embeddings do not travel with them.

    Raises:
        ValueError: the network has no blocks.
    """

    def __init__(self, vit: nn.Module) -> None:
        self.vit = cast(Any, vit)
        self.blocks = blocks_of(vit)
        forward = getattr(type(vit), "forward_features", None)
        self._embed = _EMBED.get(f"{getattr(forward, '__module__', '')}.{getattr(forward, '__qualname__', '')}")
        self.staged = self._embed is not None
        self.cacheable = self._embed is _embed_vit

    @property
    def depth(self) -> int:
        """L."""
        return len(self.blocks)

    def stage_of(self, place: str) -> int:
        """The stage of a site, module or parameter by its name."""
        first, _, rest = place.partition(".")
        if first == "blocks":
            return int(rest.partition(".")[0])
        return self.depth if first in ("norm", "fc_norm", "attn_pool") else EMBEDDING

    def embed(self, images: Tensor) -> Tokens:
        """(B, P, S, S) -> tokens."""
        assert self._embed is not None
        return self._embed(self.vit, images)

    def keywords(self, block: int, rope: Tensor | None) -> dict[str, Tensor]:
        """What a block takes besides tokens."""
        if rope is None:
            return {}
        return {"rope": rope[block] if getattr(self.vit, "rope_mixed", False) else rope}
