"""The device of a network, and copies to it."""

from typing import TypeVar

import torch
from torch import Tensor, nn

from rsft.data.imagery.input_transform import standardize_chips
from rsft.data.loading.byte_images import ByteImages, Inputs
from rsft.errors import RequestError

_Network = TypeVar("_Network", bound=nn.Module)


def copy_to_device(inputs: Inputs, device: torch.device | str) -> Tensor:
    """Return a tensor on a device; images in bytes become network inputs there.

    A copy to a GPU starts from pinned memory, so that the program does not wait for it.

    The tensor itself is returned if it is on the device already.
    """
    if isinstance(inputs, ByteImages):
        return _normalize_on(inputs, device)
    if torch.device(device).type == "cuda" and inputs.device.type == "cpu":
        return inputs.pin_memory().to(device, non_blocking=True)
    return inputs.to(device)


def copy_batch(
    batch: tuple[Inputs, Tensor], device: torch.device | str
) -> tuple[Tensor, Tensor]:
    """Return network inputs (B, ...) and labels (B,) on a device."""
    inputs, labels = batch
    return copy_to_device(inputs, device), copy_to_device(labels, device)


def _normalize_on(batch: ByteImages, device: torch.device | str) -> Tensor:
    """Return network inputs (b, P, S, S) float32 on a device, which gets the bytes."""
    contract = batch.contract
    if torch.device(device).type == "cpu":  # OpenCV is faster here
        return torch.from_numpy(contract.normalize(list(batch.images.numpy())))
    values = copy_to_device(torch.from_numpy(contract.byte_values()), device)
    inputs = look_up_bytes(copy_to_device(batch.images, device), values)
    return standardize_chips(inputs) if contract.chip_standard else inputs


def look_up_bytes(images: Tensor, values: Tensor) -> Tensor:
    """Replace bytes by values, as `InputTransform.normalize` without `chip_standard`.

    Args:
        images: bytes (b, S, S, P), or (b, S, S, 1) if all planes have the same bytes.
        values: what the bytes of each plane become (P, 256).

    Returns:
        Network inputs (b, P, S, S).
    """
    planes = torch.arange(len(values), device=values.device)[:, None, None]
    return values[planes, images.permute(0, 3, 1, 2).long()]


def move_network(network: _Network, device: torch.device | str) -> _Network:
    """Move a network to a device.

    On a GPU, the weights of frozen convolutions are stored with the channels last.

    cuDNN computes such convolutions on tensor cores without converting the weights and
    the images at every call.

    The network is changed in place, and returned.
    """
    network.to(device)
    if torch.device(device).type == "cuda":
        for module in network.modules():
            if isinstance(module, nn.Conv2d) and not module.weight.requires_grad:
                module.weight.data = module.weight.data.contiguous(
                    memory_format=torch.channels_last
                )
    return network


def choose_device(name: str) -> torch.device:
    """Return the torch device of "cpu", "cuda", "mps" or "auto".

    auto takes a CUDA GPU if the machine has one.

    Raises:
        RequestError: the machine does not have the device.
    """
    is_available = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if name == "auto":
        name = "cuda" if is_available["cuda"] else "cpu"
    if not is_available[name]:
        raise RequestError(
            f"this machine has no {name.upper()} device",
            "--device or train.device",
            "use auto or cpu",
        )
    return torch.device(name)
