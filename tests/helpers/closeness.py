"""Compare tensors of float32 relative to their norm, so that a test passes on
processors of all vendors.

Two orders of summation differ by a multiple of the largest values, not of each value:
an absolute tolerance, or one per value, passes on one processor and fails on another.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor


def close(a: Sequence[Tensor], b: Sequence[Tensor], tolerance: float = 1e-5) -> bool:
    """Return whether every tensor of `a` differs from that of `b` by at most
    `tolerance` of its norm.

    Args:
        a: tensors of any shapes.
        b: the reference, as many tensors of the same shapes. A norm below 1 counts as
            1, so zeros can be compared.
        tolerance: largest norm of the difference, as a fraction of the norm of the
            reference; 0 means equal bits.
    """
    return len(a) == len(b) and all(
        bool((x - y).norm() <= tolerance * y.norm().clamp(min=1))
        for x, y in zip(a, b, strict=True)
    )
