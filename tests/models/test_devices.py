"""The device of a network, and copies to it."""

import numpy as np
import pytest
import torch
from torch import nn

from rsft.data.loading.byte_images import ByteImages
from rsft.errors import RequestError
from rsft.models.devices import (
    choose_device,
    copy_to_device,
    look_up_bytes,
    move_network,
)
from tests.helpers.bus import copied_bytes
from tests.helpers.scenes import toy_contract


def test_device():
    assert choose_device("cpu").type == "cpu"
    if not torch.cuda.is_available():
        assert choose_device("auto").type == "cpu"
    for name in ("cuda", "mps"):
        if getattr(torch.backends, name).is_built():
            continue
        with pytest.raises(RequestError, match=f"no {name.upper()}") as error:
            choose_device(name)
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


MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


@pytest.mark.parametrize(("planes", "count"), [("VV VV VV", 1), ("VV VH VV", 3)])
def test_bytes_become_the_same_inputs_on_any_device(planes, count):
    contract = toy_contract(
        bands=("VV", "VH"), planes=tuple(planes.split()), size=5, mean=MEAN, std=STD
    )
    images = np.random.default_rng(0).integers(0, 256, (4, 5, 5, 3), np.uint8)
    images[..., 2] = images[..., 0]
    if count == 1:
        images[:] = images[..., :1]
    batch = ByteImages.stack(list(images), contract)
    assert batch.images.shape == (4, 5, 5, count)
    expected = torch.from_numpy(contract.normalize(list(images)))
    assert torch.equal(copy_to_device(batch, "cpu"), expected)
    values = torch.from_numpy(contract.byte_values())
    assert torch.equal(look_up_bytes(batch.images, values), expected)


@pytest.mark.parametrize(
    ("planes", "chip_bytes"),
    [(("gray",) * 3, 50_176), (("gray", "2*gray", "gray"), 150_528)],
)
@pytest.mark.parametrize("chip_standard", [False, True])
def test_the_bytes_of_a_chip_are_copied_once(planes, chip_bytes, chip_standard):
    contract = toy_contract(planes=planes, size=224, chip_standard=chip_standard)
    images = [np.zeros((224, 224, len(planes)), np.uint8)] * 2
    with copied_bytes() as sizes:
        inputs = copy_to_device(ByteImages.stack(images, contract), "meta")
    assert inputs.shape == (2, len(planes), 224, 224) and inputs.is_meta
    table = 4 * 256 * len(planes)
    assert sorted(sizes) == [table, 2 * chip_bytes]


def test_no_chips_become_no_inputs():
    inputs = copy_to_device(ByteImages.stack([], toy_contract(size=5)), "cpu")
    assert inputs.shape == (0, 3, 5, 5)
