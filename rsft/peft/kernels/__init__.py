"""Low-rank additions with hand-written gradients, which take less memory and time than plain autograd."""

from rsft.peft.kernels.block import class_token_block, low_rank_block
from rsft.peft.kernels.layout import LAYER_PATHS, unsupported_reason
from rsft.peft.kernels.linear import LowRankDelta, low_rank_linear

__all__ = [
    "LAYER_PATHS",
    "LowRankDelta",
    "class_token_block",
    "low_rank_block",
    "low_rank_linear",
    "unsupported_reason",
]
