"""The large matrix product of a linear layer, by the fastest operator of torch."""

import os
from time import thread_time
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F

from rsft.errors import RequestError
from rsft.utils.speedup import measure_once, measure_speedup

VARIABLE = "RSFT_MATMUL"
"""Environment variable: the library that computes the products, "torch" or "onednn"."""

_MARGIN = 1.05
"""Speedup from which oneDNN is taken, so that a busy machine does not decide."""

# of which oneDNN computes products; set by `use_matmul`
_onednn_dtypes = set[torch.dtype]()


def matmul_linear(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, out: Tensor | None = None
) -> Tensor:
    """Return x W^T + bias, by the library that `choose_matmul` names.

    Args:
        x: (n, width_in).
        weight: (width_out, width_in).
        bias: (width_out,).
        out: buffer (n, width_out) for the result. oneDNN cannot use it, and returns
            another tensor.

    Returns:
        (n, width_out).
    """
    if x.device.type == "cpu" and x.dtype in _onednn_dtypes and x.numel():
        return _onednn_linear(x.contiguous(), weight, bias)
    if out is None:
        return F.linear(x, weight, bias)
    if bias is None:
        return torch.mm(x, weight.t(), out=out)
    return torch.addmm(bias, x, weight.t(), out=out)


def choose_matmul() -> str:
    """Return the library that computes products in float32 on this machine; use it.

    "torch" is what torch was built with, mostly MKL. Whether oneDNN is faster depends
    on the processor, so it is measured in 0.1 s, once for each processor and version of
    torch. `RSFT_MATMUL` overrules it. The variable is set, so that the processes of
    this one compute the same.

    Raises:
        RequestError: the variable names no library of this machine.
    """
    threads = torch.get_num_threads()
    name = os.environ.get(VARIABLE)
    if name is None:
        name = measure_once("matmul", _libraries(), _fastest_library)
    use_matmul(name)
    # also without a measurement: MKL no longer takes the number for a proposal
    torch.set_num_threads(threads)
    return name


def use_matmul(library: str) -> None:
    """Compute products in float32 by a library, "torch" or "onednn".

    Raises:
        RequestError: it is not a library of this machine.
    """
    libraries = _libraries()
    if library not in libraries:
        raise RequestError(
            f"this machine has no library {library!r} for matrix products",
            f"{VARIABLE}, or run.json of a resumed run",
            f"choose from {', '.join(libraries)}, or start a new run",
        )
    os.environ[VARIABLE] = library
    _onednn_dtypes.clear()
    if library == "onednn":
        _onednn_dtypes.add(torch.float32)
    # torch takes oneDNN, too, but in a slower way
    if "onednn" in libraries and torch.ops.mkldnn._is_mkldnn_bf16_supported():
        _onednn_dtypes.add(torch.bfloat16)


def _libraries() -> list[str]:
    # the operator that torch.compile uses must be callable
    if torch.backends.mkldnn.is_available() and hasattr(  # type: ignore[no-untyped-call]
        torch.ops.mkldnn, "_linear_pointwise"
    ):
        return ["torch", "onednn"]
    return ["torch"]


def _fastest_library() -> str:
    """Measure a layer of a transformer and the gradient of its input.

    One thread is used: with several, a busy machine gives any ratio.
    """
    if len(_libraries()) == 1:
        return "torch"
    x = torch.ones(256, 384)
    weight = torch.ones(1536, 384)
    dy = torch.ones(256, 1536)
    torch.set_num_threads(1)
    speedup = measure_speedup(
        lambda: (F.linear(x, weight), F.linear(dy, weight.t())),
        lambda: (_onednn_linear(x, weight), _onednn_linear(dy, weight.t())),
        clock=thread_time,
    )
    return "onednn" if speedup > _MARGIN else "torch"


def _onednn_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return cast(
        Tensor, torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    )
