"""The device of a network, and copies to it."""

import pytest
import torch
from torch import nn

from rsft.errors import RequestError
from rsft.models.devices import choose_device, copy_to_device, move_network


def test_device():
    assert choose_device("cpu").type == "cpu"
    if not torch.cuda.is_available():
        assert choose_device("auto").type == "cpu"
        with pytest.raises(RequestError, match="no CUDA") as error:
            choose_device("cuda")
        assert error.value.location == "--device or train.device"


CUDA = torch.device("cuda")


class FakeTensor:
    """Records how it is copied, because tests have no GPU."""

    device = torch.device("cpu")

    def __init__(self):
        self.calls = []

    def pin_memory(self):
        self.calls.append("pin_memory")
        return self

    def to(self, device, **options):
        self.calls.append((torch.device(device).type, options))
        return self


def test_a_copy_to_a_gpu_starts_from_pinned_memory():
    tensor = FakeTensor()
    copy_to_device(tensor, CUDA)
    assert tensor.calls == ["pin_memory", ("cuda", {"non_blocking": True})]


@pytest.mark.parametrize(
    ("source", "target"), [("cpu", "cpu"), ("cuda", "cuda"), ("cuda", "cpu")]
)
def test_other_copies_are_plain(source, target):
    tensor = FakeTensor()
    tensor.device = torch.device(source)
    copy_to_device(tensor, target)
    assert tensor.calls == [(target, {})]


def test_frozen_convolutions_have_their_channels_last_on_a_gpu(monkeypatch):
    monkeypatch.setattr(nn.Module, "to", lambda module, device: module)
    network = nn.Sequential(nn.Conv2d(3, 4, 2, stride=2), nn.Conv2d(4, 5, 1))
    images = torch.randn(2, 3, 8, 8)
    before = network(images)
    values = [parameter.clone() for parameter in network.parameters()]
    network[0].requires_grad_(False)
    assert move_network(network, "cpu")[0].weight.is_contiguous()
    move_network(network, CUDA)
    assert network[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert network[1].weight.is_contiguous()  # learned tensors are saved as they are
    torch.testing.assert_close(network(images), before)
    assert all(
        torch.equal(*pair) for pair in zip(network.parameters(), values, strict=True)
    )
