"""Descriptions and bounds of the recipe keys of PEFT methods, as metadata of dataclass fields."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any


def _metadata(description: str, **bounds: Any) -> Mapping[str, Any]:
    return MappingProxyType({"description": description, **bounds})


RANK = _metadata("inner dimension r of low-rank modules (the paper's 4 on DOTA and FUSRS)", minimum=1)
DIM = _metadata("width of the bottleneck of Adapter and AdaptFormer", minimum=1)
POSITION_LETTERS = _metadata(
    "adapted positions of a block: query, key, value, out, MLP 1, MLP 2 (paper, Tables 1 and 2); all takes every "
    "position that a block has, also the convolutions of a ResNet",
    pattern="^([qkvo12]+|all)$",
    words="all, letters of qkvo12",
)
BLOCKS = _metadata(
    "adapted transformer blocks (paper, Table 3)",
    pattern="^(all|(last|every):[1-9][0-9]*|[0-9]+-[0-9]+)$",
    words="all, last:N, every:N, a range such as 0-5",
    minimum=0,
)
SCALE = _metadata(
    "fixed scale of a module's output without a modulator; learnable (AdaptFormer only) trains it, as LIFT does",
    exclusive_minimum=0,
)
ALPHA = _metadata(
    "numerator of the fixed scale alpha / r, as in the authors' code; null takes `scale`", exclusive_minimum=0
)
INIT = _metadata(
    "fan-in of the start of A: width, the input width (Hugging Face), or rank, r (LIFT and the authors' code), which "
    "makes A sqrt(width / r) times larger"
)
ADAPTER_SCALE = _metadata("fixed scale of AdaptFormer in combination with LoRA", exclusive_minimum=0)
PROMPTS = _metadata("number of prompt tokens that VPT inserts before the patch tokens", minimum=1)
DROPOUT = _metadata("dropout rate in a module, in training", minimum=0, exclusive_maximum=1)
