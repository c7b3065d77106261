"""Visual prompt tuning: learned tokens between the prefix tokens and the patch tokens."""

import inspect
import math
from collections.abc import Sequence
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rsft.peft.modules.adapter_module import (
    AdapterModule,
    mangle_name,
    require_tokens,
    trainable_kwargs,
    transformer_blocks,
)


class PromptModule(AdapterModule):
    """Learned tokens after the prefix tokens, which are removed after the last block, so the output keeps its layout.

    Unlike additive modules, prompts change the outputs from the start: no prompt leaves attention unchanged.

    Args:
        vit: a timm vision transformer.
        prompts: number of prompts in every selected block.
        blocks: indices of the blocks that receive new prompts at their input.
        dropout: rate on the prompts.

    Raises:
        ValueError: `prompts` is below 1, `dropout` is outside of [0, 1), or the network takes no further tokens.
    """

    def __init__(self, vit: nn.Module, prompts: int, blocks: Sequence[int], dropout: float) -> None:
        super().__init__()
        require_tokens(vit, "vpt", "feature maps, to which no prompt can be added, pass between its blocks")
        if prompts < 1 or not 0 <= dropout < 1:
            raise ValueError(f"prompts {prompts}, dropout {dropout}: use at least 1 prompt, and 0 <= dropout < 1")
        self.count, self.prompt_blocks, self.dropout = prompts, tuple(blocks), dropout
        self._blocks: list[Any] = list(transformer_blocks(vit))
        if fault := _prompt_fault(vit, self._blocks):
            raise ValueError(f"{type(vit).__name__} takes no prompts: {fault}")
        self._prefix = int(cast(Any, vit).num_prefix_tokens)
        embed = cast(Any, vit).patch_embed
        width = int(cast(Any, vit).embed_dim)
        # Xavier-uniform as in the authors' code: fan-in is a patch of three planes, fan-out the width
        bound = math.sqrt(6 / (3 * math.prod(embed.patch_size) + width))
        options = trainable_kwargs(next(vit.parameters()))
        for block in self.prompt_blocks:
            prompt = torch.empty(prompts, width, **options).uniform_(-bound, bound)
            self.register_parameter(_parameter_name(block), nn.Parameter(prompt))

    def inject(self) -> None:
        """Hook the selected blocks and the last block. Rotary embeddings skip prompts, as they skip prefix tokens."""
        first, last = self.prompt_blocks[0], self._blocks[-1]
        for block in self.prompt_blocks:
            hook = self._blocks[block].register_forward_pre_hook(partial(self._insert_prompts, block))
            self.add_undo(f"blocks.{block}.prompts", hook.remove)
        undo = [last.register_forward_hook(self._remove_prompts).remove]
        for block in self._blocks[first:]:
            attn: Any = getattr(block, "attn", None)
            if hasattr(attn, "num_prefix_tokens"):
                undo.append(partial(setattr, attn, "num_prefix_tokens", attn.num_prefix_tokens))
                attn.num_prefix_tokens += self.count
        self.add_undo(f"blocks.{len(self._blocks) - 1}.exit", *undo)

    def _insert_prompts(self, block: int, module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        x, *other_args = args
        prompts = self.get_parameter(_parameter_name(block)).expand(x.shape[0], -1, -1)  # a trace makes len(x) constant
        prompts = F.dropout(prompts, self.dropout, self.training).to(x.dtype)
        patches = self._prefix + (self.count if block != self.prompt_blocks[0] else 0)
        return torch.cat([x[:, : self._prefix], prompts, x[:, patches:]], dim=1), *other_args

    def _remove_prompts(self, module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return torch.cat([output[:, : self._prefix], output[:, self._prefix + self.count :]], dim=1)


def _prompt_fault(vit: nn.Module, blocks: Sequence[Any]) -> str | None:
    """Return why a network cannot take more tokens than its patches and prefix tokens, or None if it can."""
    for path in ("embed_dim", "num_prefix_tokens", "patch_embed.patch_size"):
        module: Any = vit
        for name in path.split("."):
            module = getattr(module, name, None)
        if module is None:
            return f"it has no {path}"
    for path, module in vit.named_modules():
        has_table = getattr(module, "relative_position_bias_table", None) is not None
        if has_table or type(module).__name__.startswith(("RelPosMlp", "RelPosBias", "RelativePosition")):
            return f"{path} has a bias for each pair of its own tokens"
    parameters = list(inspect.signature(blocks[0].forward).parameters.values())
    needed = [parameter.name for parameter in parameters[1:] if parameter.default is parameter.empty]
    return f"its blocks need {' and '.join(needed)} of the token grid" if needed else None


def _parameter_name(block: int) -> str:
    return mangle_name(f"blocks.{block}.prompts")
