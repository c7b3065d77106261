"""The switch of the kernels: argument, environment variable, device."""

import pytest
import torch

from rsft.peft import LoRA, attach, load
from rsft.peft.kernels import linear as linear_kernel
from rsft.peft.kernels.switch import requested_kernels, use_kernels
from tests.helpers.messages import mentions
from tests.helpers.peft_models import tiny_vit

CPU = torch.device("cpu")
CUDA = torch.device("cuda")


@pytest.fixture(autouse=True)
def no_request(monkeypatch):
    monkeypatch.delenv("RSFT_KERNELS", raising=False)


@pytest.fixture
def calls(monkeypatch):
    """The layers that the kernel runs."""
    layers: list[object] = []
    forward = linear_kernel.FrozenLinear.forward

    def spy(layer, *args):
        layers.append(layer)
        return forward(layer, *args)

    monkeypatch.setattr(linear_kernel.FrozenLinear, "forward", spy)
    return layers


def test_only_a_cpu_uses_the_kernels_unless_they_are_requested():
    assert [use_kernels(device, None) for device in (CPU, CUDA)] == [True, False]
    assert [use_kernels(CUDA, requested) for requested in (True, False)] == [
        True,
        False,
    ]
    assert not use_kernels(CPU, False)


@pytest.mark.parametrize(
    ("value", "requested"), [("", None), ("0", False), ("1", True)]
)
def test_the_argument_comes_before_the_environment(monkeypatch, value, requested):
    monkeypatch.setenv("RSFT_KERNELS", value)
    assert requested_kernels() is requested
    assert requested_kernels(True) is True and requested_kernels(False) is False


def test_another_value_is_refused(monkeypatch, vit):
    monkeypatch.setenv("RSFT_KERNELS", "off")
    with pytest.raises(ValueError, match=mentions("RSFT_KERNELS", "'off'", "0 or 1")):
        attach(vit, LoRA())
    assert not hasattr(vit, "adapted_by")


@pytest.mark.parametrize(
    ("kernels", "value", "used"),
    [(None, "", True), (False, "", False), (None, "0", False)],
)
def test_a_step_uses_what_was_requested(
    monkeypatch, calls, images, tmp_path, kernels, value, used
):
    monkeypatch.setenv("RSFT_KERNELS", value)
    adapted = attach(tiny_vit(), LoRA(rank=2), kernels=kernels)
    adapted.save(tmp_path / "adapter.safetensors")
    # block by block, timm's own pass, a loaded file
    networks = [adapted, adapted.vit]
    if kernels is None:
        networks.append(load(tiny_vit(), tmp_path / "adapter.safetensors"))
    for network in networks:
        calls.clear()
        network(images).sum().backward()
        assert bool(calls) == used
