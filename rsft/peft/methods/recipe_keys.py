"""What recipes say about the fields of PEFT methods: descriptions and bounds, as dataclass metadata."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any


def _metadata(description: str, **bounds: Any) -> Mapping[str, Any]:
    return MappingProxyType({"description": description, **bounds})


RANK = _metadata("inner dimension r of low-rank modules (the paper's 4 on DOTA and FUSRS)", minimum=1)
DIM = _metadata("width of the bottleneck of Adapter and AdaptFormer", minimum=1)
POSITIONS = _metadata(
    "query, key, value, out, MLP 1, MLP 2 (paper, Tables 1 and 2)", pattern="^[qkvo12]+$", words="letters of qkvo12"
)
BLOCKS = _metadata(
    "transformer blocks that are adapted (paper, Table 3)",
    pattern="^(all|(last|every):[1-9][0-9]*|[0-9]+-[0-9]+)$",
    words="all, last:N, every:N, a range such as 0-5",
    minimum=0,
)
SCALE = _metadata(
    "factor of a module's output where no modulator learns it; learnable is AdaptFormer's, as in LIFT",
    exclusive_minimum=0,
)
ADAPTER_SCALE = _metadata("the same of AdaptFormer beside LoRA", exclusive_minimum=0)
PROMPTS = _metadata("tokens that VPT puts before the patches, in a block", minimum=1)
DROPOUT = _metadata("share of a module's inputs dropped in training", minimum=0, exclusive_maximum=1)
