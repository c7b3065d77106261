"""The device of a network, and copies to it."""

from typing import TypeVar

import torch
from torch import Tensor, nn

from rsft.errors import RequestError

_Network = TypeVar("_Network", bound=nn.Module)


def copy_to_device(tensor: Tensor, device: torch.device | str) -> Tensor:
    """Return a tensor on a device.

    A copy to a GPU starts from pinned memory, so that the program does not wait for it.

    The tensor itself is returned if it is on the device already.
    """
    if torch.device(device).type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


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
    """Return the torch device of "cpu", "cuda" or "auto".

    auto takes a GPU if the machine has one.

    Raises:
        RequestError: "cuda" on a machine without a GPU.
    """
    has_gpu = torch.cuda.is_available()
    if name == "cuda" and not has_gpu:
        raise RequestError(
            "this machine has no CUDA device",
            "--device or train.device",
            "use auto or cpu",
        )
    return torch.device("cuda" if has_gpu and name != "cpu" else "cpu")
