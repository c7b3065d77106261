"""The large product of a layer is the same with both libraries; a measurement chooses."""

import pytest
import timm
import torch
from torch.nn import functional as F

from rsft.errors import RequestError
from rsft.peft import LoRA, attach
from rsft.peft.kernels import matmul


@pytest.fixture(autouse=True)
def earlier_choice(monkeypatch, tmp_path):
    """A new cache, no choice, and after the test the earlier one."""
    # what the rest of this process uses
    monkeypatch.setattr(matmul, "_onednn_dtypes", set())
    monkeypatch.setenv(matmul.VARIABLE, "torch")
    monkeypatch.delenv(matmul.VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


@pytest.fixture
def measure(monkeypatch):
    """Return a function that sets the speedup by oneDNN; the list has one item per measurement."""
    measured = []

    def set_speedup(speedup):
        def fake(baseline, candidate, clock):
            measured.append(torch.get_num_threads())
            baseline()
            candidate()
            return speedup

        monkeypatch.setattr(matmul, "measure_speedup", fake)
        return measured

    return set_speedup


@pytest.mark.parametrize("library", ["torch", "onednn"])
@pytest.mark.parametrize("transposed", [False, True])
def test_both_libraries_compute_a_linear_layer(library, transposed):
    matmul.use_matmul(library)
    torch.manual_seed(0)
    x = torch.randn(37, 48)
    weight = torch.randn(24, 48)
    bias = torch.randn(24)
    weight = weight.t().contiguous().t() if transposed else weight
    buffer = torch.empty(37, 24)
    torch.testing.assert_close(
        matmul.matmul_linear(x, weight, bias), F.linear(x, weight, bias)
    )
    torch.testing.assert_close(matmul.matmul_linear(x, weight), F.linear(x, weight))
    torch.testing.assert_close(
        matmul.matmul_linear(x, weight, bias, buffer), F.linear(x, weight, bias)
    )
    torch.testing.assert_close(
        matmul.matmul_linear(x, weight, None, buffer), F.linear(x, weight)
    )


def test_torch_writes_into_the_buffer():
    matmul.use_matmul("torch")
    x = torch.randn(5, 4)
    weight = torch.randn(3, 4)
    for bias in (None, torch.randn(3)):
        buffer = torch.empty(5, 3)
        result = matmul.matmul_linear(x, weight, bias, buffer)
        assert result.data_ptr() == buffer.data_ptr()
        torch.testing.assert_close(buffer, F.linear(x, weight, bias))


@pytest.mark.parametrize("library", ["torch", "onednn"])
def test_bfloat16_has_no_choice(library):
    x = torch.randn(5, 4, dtype=torch.bfloat16)
    weight = torch.randn(3, 4, dtype=torch.bfloat16)
    matmul.use_matmul(library)
    torch.testing.assert_close(matmul.matmul_linear(x, weight), F.linear(x, weight))
    # the private set says what a product does
    assert (torch.bfloat16 in matmul._onednn_dtypes) is bool(
        torch.ops.mkldnn._is_mkldnn_bf16_supported()
    )


@pytest.mark.parametrize(
    ("speedup", "library"), [(0.8, "torch"), (1.04, "torch"), (1.09, "onednn")]
)
def test_onednn_is_taken_if_it_is_clearly_faster(speedup, library, measure):
    threads = torch.get_num_threads()
    measured = measure(speedup)
    generator = torch.get_rng_state()
    assert matmul.choose_matmul() == library
    assert measured == [1] and torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), generator)
    # the private set says what a product does
    assert (torch.float32 in matmul._onednn_dtypes) is (library == "onednn")


def test_it_is_measured_once_per_machine(measure, monkeypatch):
    measured = measure(1.5)
    assert matmul.choose_matmul() == "onednn"
    monkeypatch.delenv(matmul.VARIABLE)  # another process
    measure(0.5)
    assert matmul.choose_matmul() == "onednn" and len(measured) == 1


def test_a_process_computes_as_the_one_that_started_it(measure, monkeypatch):
    measured = measure(1.5)
    monkeypatch.setenv(matmul.VARIABLE, "torch")
    network = timm.create_model(
        "vit_tiny_patch16_224", img_size=32, depth=1, num_classes=0
    )
    attach(network, LoRA(rank=2))
    # the private set says what a product does
    assert not measured and torch.float32 not in matmul._onednn_dtypes
    matmul.use_matmul("onednn")
    assert matmul.choose_matmul() == "onednn" and not measured


def test_a_build_of_torch_without_onednn(measure, monkeypatch):
    measured = measure(1.5)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert matmul.choose_matmul() == "torch" and not measured
    with pytest.raises(RequestError, match="onednn"):
        matmul.use_matmul("onednn")


@pytest.mark.parametrize("value", ["", "mkl", "\x00"])
def test_a_library_that_does_not_exist(value, monkeypatch):
    monkeypatch.setattr(matmul.os, "environ", {matmul.VARIABLE: value})
    with pytest.raises(RequestError) as caught:
        matmul.choose_matmul()
    assert matmul.VARIABLE in caught.value.location
    assert "torch, onednn" in caught.value.hint
