"""Compare a network with LoRA and learned scales on a device with the same network on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial

import torch
from torch import Tensor

from rsft.peft import AdaptedModel, LoRA, attach
from tools.gpu_check.rows import Figure, NotRunError, Task
from tools.gpu_check.sizes import Network

TOLERANCE = 1e-4
"""Of float32, without TF32: the sums have another order."""
HALF_TOLERANCES = {torch.bfloat16: 0.05, torch.float16: 0.02}
"""Of half precision against float32."""

SECTION = "equality"
ONLY_ON_GPU = "rsft uses float16 on a GPU only"
DIFFERENCE = "relative difference"

_ROUGH_VALUES = ("output", "gradient of theta", "gradient of gamma")

Values = dict[str, Tensor]


def equality_tasks(network: Network, device: torch.device) -> list[Task]:
    """Compare outputs and gradients with those of the CPU in float32.

    Args:
        network: the network.
        device: the device to check.

    Returns:
        One task for plain autograd, one for the kernels with hand-written gradients,
        and one for each half precision.
    """
    tasks = []
    for name, kernels in (("plain autograd", False), ("kernels", True)):
        compute = partial(compute_values, network, device, kernels=kernels)
        compare = partial(_compare, network, compute, TOLERANCE)
        tasks.append(Task(SECTION, name, compare))
    for dtype, tolerance in HALF_TOLERANCES.items():
        name = str(dtype).removeprefix("torch.")
        compute = partial(_compute_half, network, device, dtype)
        compare = partial(_compare, network, compute, tolerance, _ROUGH_VALUES)
        tasks.append(Task(SECTION, name, compare))
    return tasks


def compute_values(
    network: Network,
    device: torch.device,
    *,
    kernels: bool | None,
    dtype: torch.dtype | None = None,
) -> Values:
    """Compute outputs and gradients of a network with LoRA.

    Args:
        network: the network.
        device: where to compute.
        kernels: see `rsft.peft.attach`.
        dtype: half precision for autocast and the frozen matrices; None computes in
            float32.

    Returns:
        Name -> values on the CPU; without "output, merged" in half precision, which
        merges into no weights.
    """
    adapted = make_adapted(network, device, kernels)
    images = network.images(device)
    if dtype is not None:
        adapted.cast_frozen_weights(dtype)
    split = network.batch // 2
    with torch.autocast(device.type, dtype, enabled=dtype is not None):
        output = adapted(images).float()
        with adapted.joint(split):
            joint = adapted(images).float()
    values = {"output": output}
    for name, result in (("gradient", output), ("joint gradient", joint)):
        gradients = torch.autograd.grad(
            result.square().sum(), [*adapted.theta, *adapted.gamma]
        )
        values[f"{name} of theta"] = torch.cat(
            [gradient.flatten() for gradient in gradients[:-1]]
        )
        values[f"{name} of gamma"] = gradients[-1]
    if dtype is None:
        with torch.no_grad():
            values["output, merged"] = adapted.merge()(images)
    return {name: value.detach().cpu().double() for name, value in values.items()}


def make_adapted(
    network: Network, device: torch.device, kernels: bool | None = None
) -> AdaptedModel:
    """Attach LoRA with learned scales at all positions, as if it had been trained.

    Args:
        network: the network.
        device: device of the weights.
        kernels: see `rsft.peft.attach`.

    Returns:
        The same parameters on every device.
    """
    adapted = attach(
        network.build("cpu"),
        LoRA(rank=4, positions="qkvo12"),
        learn_scales=True,
        kernels=kernels,
    )
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in (*adapted.theta, *adapted.gamma):
            parameter.add_(
                torch.randn(parameter.shape, generator=generator), alpha=0.05
            )
    return adapted.to(device)


def relative_difference(values: Tensor, reference: Tensor) -> float:
    """Return the norm of the difference divided by the norm of the reference.

    Args:
        values: any tensor.
        reference: a tensor of the same shape.
    """
    return float((values - reference).norm() / reference.norm())


@contextmanager
def without_tf32() -> Iterator[None]:
    """Let cuDNN compute float32 convolutions in float32 until the block ends; by default it rounds them to TF32.

    Yields:
        Nothing.
    """
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def _compute_half(network: Network, device: torch.device, dtype: torch.dtype) -> Values:
    if dtype == torch.float16 and device.type == "cpu":
        raise NotRunError(ONLY_ON_GPU)
    return compute_values(network, device, kernels=None, dtype=dtype)


@cache
def _reference(network: Network) -> Values:
    return compute_values(network, torch.device("cpu"), kernels=True)


def _compare(
    network: Network,
    compute: Callable[[], Values],
    tolerance: float,
    names: Sequence[str] = (),
) -> list[Figure]:
    """Return the difference of each value to that of the CPU; `names` selects values."""
    reference = _reference(network)
    with without_tf32():
        values = compute()
    figures = []
    for name in names or reference:
        difference = relative_difference(values[name], reference[name])
        figures.append(Figure(difference, DIFFERENCE, name, tolerance))
    return figures
