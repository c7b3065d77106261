"""Visual prompt tuning: learned tokens between the prefix tokens and the patches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rsft.peft.methods.adapter_module import Part, slashed, trained_type
from rsft.peft.methods.registry import register
from rsft.peft.sites import blocks_of, select_blocks


@register
@dataclass(frozen=True)
class VPTShallow:
    """Prompts at the input of the first block (Jia et al. 2022, https://arxiv.org/abs/2203.12119).

    Attributes:
        prompts: how many.
        dropout: on the prompts, in training.
    """

    name: ClassVar[str] = "vpt-shallow"
    prompts: int = 10
    dropout: float = 0.0

    def parts(self, vit: nn.Module) -> list[Prompts]:
        """(prompts, D)."""
        return [Prompts(vit, self.prompts, (0,), self.dropout)]


@register
@dataclass(frozen=True)
class VPTDeep:
    """New prompts at the input of every chosen block; between them, and behind the last, they are carried on.

    Attributes:
        prompts: how many a block.
        blocks: "all", "last:N", "every:N" or indices from 0.
        dropout: on the prompts, in training.
    """

    name: ClassVar[str] = "vpt-deep"
    prompts: int = 10
    blocks: str | Sequence[int] = "all"
    dropout: float = 0.0

    def parts(self, vit: nn.Module) -> list[Prompts]:
        """(prompts, D) a chosen block."""
        return [Prompts(vit, self.prompts, select_blocks(self.blocks, len(blocks_of(vit))), self.dropout)]


class Prompts(Part):
    """Tokens that enter behind the prefix tokens and leave behind the last block, so that the output keeps its layout.

    Unlike additive modules they change the outputs from the start: attention has no value of a prompt that is a no-op.

    Raises:
        ValueError: no prompts, or a rate outside of [0, 1).
    """

    def __init__(self, vit: nn.Module, prompts: int, blocks: Sequence[int], dropout: float) -> None:
        super().__init__()
        if prompts < 1 or not 0 <= dropout < 1:
            raise ValueError(f"prompts {prompts}, dropout {dropout}: use 1 or more, and 0 or more and less than 1")
        self.count, self.chosen, self.dropout = prompts, tuple(blocks), dropout
        self._blocks: list[Any] = list(blocks_of(vit))
        self._prefix = int(cast(Any, vit).num_prefix_tokens)
        embed = cast(Any, vit).patch_embed
        width = int(cast(Any, vit).embed_dim)
        # Xavier-uniform as in the authors' code, with a patch of three planes as the other side
        bound = math.sqrt(6 / (3 * math.prod(embed.patch_size) + width))
        options = trained_type(next(vit.parameters()))
        for block in self.chosen:
            prompt = torch.empty(prompts, width, **options).uniform_(-bound, bound)
            self.register_parameter(_key(block), nn.Parameter(prompt))

    def put_on(self) -> None:
        """Hook the chosen blocks and the last one; rotary embeddings leave prompts out, as they do prefix tokens."""
        first, last = self.chosen[0], self._blocks[-1]
        for block in self.chosen:
            hook = self._blocks[block].register_forward_pre_hook(partial(self._enter, block))
            self.placed(f"blocks.{block}.prompts", hook.remove)
        undo = [last.register_forward_hook(self._exit).remove]
        for block in self._blocks[first:]:
            attn: Any = getattr(block, "attn", None)
            if hasattr(attn, "num_prefix_tokens"):
                undo.append(partial(setattr, attn, "num_prefix_tokens", attn.num_prefix_tokens))
                attn.num_prefix_tokens += self.count
        self.placed(f"blocks.{len(self._blocks) - 1}.exit", *undo)

    def _enter(self, block: int, module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        x, *rest = args
        prompts = self.get_parameter(_key(block)).expand(x.shape[0], -1, -1)  # tracing takes len(x) for a constant
        prompts = F.dropout(prompts, self.dropout, self.training).to(x.dtype)
        patches = self._prefix + (self.count if block != self.chosen[0] else 0)
        return torch.cat([x[:, : self._prefix], prompts, x[:, patches:]], dim=1), *rest

    def _exit(self, module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return torch.cat([output[:, : self._prefix], output[:, self._prefix + self.count :]], dim=1)


def _key(block: int) -> str:
    return slashed(f"blocks.{block}.prompts")
