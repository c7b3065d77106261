"""The mathematics of low-rank tuning with hand-written gradients: less memory and less time than plain autograd."""

from rsft.peft.kernels.block import lean_block, why_not_lean
from rsft.peft.kernels.linear import Term, low_rank_linear

__all__ = ["Term", "lean_block", "low_rank_linear", "why_not_lean"]
