"""The large product of a layer is the same with MKL and oneDNN; the processor decides
which one computes it."""

from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from rsft.peft.kernels import matmul


@pytest.mark.parametrize("is_intel", [False, True])
@pytest.mark.parametrize("transposed", [False, True])
def test_both_libraries_compute_a_linear_layer(is_intel, transposed, monkeypatch):
    # a processor of another vendor
    monkeypatch.setattr(matmul, "_is_intel", lambda: is_intel)
    # a processor of another vendor
    monkeypatch.setattr(matmul, "_ONEDNN_DTYPES", matmul._onednn_dtypes())
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


def test_mkl_writes_into_the_buffer(monkeypatch):
    # no product goes to oneDNN
    monkeypatch.setattr(matmul, "_ONEDNN_DTYPES", set())
    x = torch.randn(5, 4)
    weight = torch.randn(3, 4)
    for bias in (None, torch.randn(3)):
        buffer = torch.empty(5, 3)
        result = matmul.matmul_linear(x, weight, bias, buffer)
        assert result.data_ptr() == buffer.data_ptr()
        torch.testing.assert_close(buffer, F.linear(x, weight, bias))


@pytest.mark.parametrize(
    ("vendor", "is_intel"), [("GenuineIntel", True), ("AuthenticAMD", False)]
)
def test_the_vendor_of_the_processor(vendor, is_intel, monkeypatch):
    monkeypatch.setattr(
        Path, "read_text", lambda *_: f"processor\t: 0\nvendor_id\t: {vendor}\n"
    )
    assert matmul._is_intel() is is_intel


@pytest.mark.parametrize(
    ("name", "is_intel"), [("Intel64 Family 6, GenuineIntel", True), ("arm", False)]
)
def test_the_vendor_on_systems_without_a_list_of_processors(
    name, is_intel, monkeypatch
):
    def missing(*_):
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", missing)
    monkeypatch.setattr(matmul.platform, "processor", lambda: name)
    assert matmul._is_intel() is is_intel


def test_intel_leaves_float32_to_mkl(monkeypatch):
    # a build of torch with all libraries
    monkeypatch.setattr(matmul, "_is_available", lambda backend: True)
    monkeypatch.setattr(matmul, "_is_intel", lambda: True)
    assert torch.float32 not in matmul._onednn_dtypes()
