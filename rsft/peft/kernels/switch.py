"""The choice between the kernels with hand-written gradients and plain autograd.

Both compute the same.
"""

import os

import torch

VARIABLE = "RSFT_KERNELS"
"""Environment variable: 0 switches the kernels off, 1 uses them on every device."""


def requested_kernels(kernels: bool | None = None) -> bool | None:
    """Return whether the kernels are requested.

    An argument counts, or else the environment variable `RSFT_KERNELS`.

    Args:
        kernels: the argument; None if the caller requests nothing.

    Returns:
        True or False; None if neither requests anything, so that `use_kernels` decides
        by the device.

    Raises:
        ValueError: the environment variable is neither 0 nor 1.
    """
    if kernels is not None:
        return kernels
    value = os.environ.get(VARIABLE, "")
    if value not in ("", "0", "1"):
        raise ValueError(
            f"the environment variable {VARIABLE} is {value!r}: set it to 0 or 1, or"
            " unset it"
        )
    if value == "":
        return None
    return value == "1"


def use_kernels(device: torch.device, requested: bool | None) -> bool:
    """Return whether a layer uses the kernels.

    By default only a CPU does: they were not measured on other devices.

    Args:
        device: device of the input of the layer.
        requested: from `requested_kernels`.
    """
    if requested is None:
        return device.type == "cpu"
    return requested
