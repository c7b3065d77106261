"""Low-rank additions with hand-written gradients.

On a CPU, they take less memory and time than plain autograd.
"""

from rsft.peft.kernels.block import class_token_block, low_rank_block
from rsft.peft.kernels.layout import LAYER_PATHS, is_standard_block
from rsft.peft.kernels.linear import low_rank_linear
from rsft.peft.kernels.packing import LowRankDelta
from rsft.peft.kernels.switch import requested_kernels, use_kernels

__all__ = [
    "LAYER_PATHS",
    "LowRankDelta",
    "class_token_block",
    "is_standard_block",
    "low_rank_block",
    "low_rank_linear",
    "requested_kernels",
    "use_kernels",
]
