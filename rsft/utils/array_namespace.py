"""Let one formula compute with arrays of NumPy and with tensors of PyTorch."""

import sys
from typing import Any

import numpy as np


def array_namespace(array: Any) -> Any:
    """Return the package whose functions take an array.

    Returns:
        The module numpy or torch. Both have exp, log, log10, log1p, sqrt, where,
        isfinite, amax, stack, flip and rot90 with the same first arguments. PyTorch
        also accepts `axis` and `keepdims`.
    """
    return sys.modules[type(array).__module__.partition(".")[0]]


def to_float(array: Any, bits: int = 32) -> Any:
    """Convert an array, scalar or tensor to floating-point numbers of 32 or 64 bits."""
    if hasattr(array, "astype"):
        return array.astype(f"float{bits}")
    if bits == 32:
        return array.float()
    return array.double()


def to_array(values: np.ndarray, like: Any) -> Any:
    """Convert values to the type, and to the device, of an array or tensor."""
    if isinstance(like, np.ndarray):
        return values.astype(like.dtype)
    return like.new_tensor(values)


def fill_missing(array: Any, value: float) -> Any:
    """Replace values that are not finite."""
    namespace = array_namespace(array)
    return namespace.where(namespace.isfinite(array), array, value)


def log_sum_exp(values: Any, axis: int) -> Any:
    """Return log(sum(exp(values))) of finite values along an axis, which stays.

    Returns:
        The logarithms.
    """
    namespace = array_namespace(values)
    largest = namespace.amax(values, axis=axis, keepdims=True)
    return largest + namespace.log(
        namespace.exp(values - largest).sum(axis=axis, keepdims=True)
    )
