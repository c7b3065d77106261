"""The large matrix product of a linear layer, by the fastest operator of torch."""

import platform
from pathlib import Path
from types import ModuleType
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F


def matmul_linear(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, out: Tensor | None = None
) -> Tensor:
    """Return x W^T + bias, computed by the faster of MKL and oneDNN.

    torch sends float32 products to MKL. MKL is 6 to 12 % slower than oneDNN on an AMD
    processor with AVX-512, but faster on processors of Intel: by up to 10 %, and twice
    as fast for a transposed weight of many columns. The choice depends on the processor
    alone, so that a job gives the same result every time.

    Args:
        x: (n, width_in).
        weight: (width_out, width_in).
        bias: (width_out,).
        out: buffer (n, width_out) for the result. oneDNN cannot use it, and returns
            another tensor.

    Returns:
        (n, width_out).
    """
    if x.device.type == "cpu" and x.dtype in _ONEDNN_DTYPES and x.numel():
        return cast(
            Tensor,
            torch.ops.mkldnn._linear_pointwise(
                x.contiguous(), weight, bias, "none", [], ""
            ),
        )
    if out is None:
        return F.linear(x, weight, bias)
    if bias is None:
        return torch.mm(x, weight.t(), out=out)
    return torch.addmm(bias, x, weight.t(), out=out)


def _onednn_dtypes() -> set[torch.dtype]:
    """Return the dtypes whose products go to oneDNN.

    The operator that torch.compile uses must be callable, and MKL must not be faster.
    """
    if not _is_available(torch.backends.mkldnn) or not hasattr(
        torch.ops.mkldnn, "_linear_pointwise"
    ):
        return set()
    dtypes = set()
    if not (_is_available(torch.backends.mkl) and _is_intel()):
        dtypes.add(torch.float32)
    if torch.ops.mkldnn._is_mkldnn_bf16_supported():
        dtypes.add(torch.bfloat16)
    return dtypes


def _is_available(backend: ModuleType) -> bool:
    return bool(backend.is_available())


def _is_intel() -> bool:
    """Return whether this is an Intel processor, for which MKL is fastest."""
    try:
        return "GenuineIntel" in Path("/proc/cpuinfo").read_text("utf-8", "replace")
    except OSError:  # not Linux
        return "GenuineIntel" in platform.processor()


_ONEDNN_DTYPES = _onednn_dtypes()
