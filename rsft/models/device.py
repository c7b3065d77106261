"""Copy networks and batches to a device."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn

_Network = TypeVar("_Network", bound=nn.Module)


def copy_to_device(tensor: Tensor, device: torch.device | str) -> Tensor:
    """Return a tensor on a device. A copy to a GPU starts from pinned memory, so that the program does not wait for it.

    Args:
        tensor: a tensor on any device.
        device: the target.

    Returns:
        The tensor itself if it is on the device already, else a copy.
    """
    if torch.device(device).type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def move_network(network: _Network, device: torch.device | str) -> _Network:
    """Move a network to a device. On a GPU, the weights of frozen convolutions are stored with the channels last.

    cuDNN computes such convolutions on tensor cores without converting the weights and the images at every call.

    Args:
        network: the network; it is changed in place.
        device: the target.

    Returns:
        The network.
    """
    network.to(device)
    if torch.device(device).type == "cuda":
        use_channels_last(network)
    return network


def use_channels_last(network: nn.Module) -> None:
    """Store the weights of frozen convolutions with the channels last; the values do not change.

    Args:
        network: a network on any device.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and not module.weight.requires_grad:
            module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last)
