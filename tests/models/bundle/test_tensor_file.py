"""The tensors of a bundle are read at first use."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from rsft.errors import WeightsError
from rsft.models.bundle.bundle import TensorFile
from tests.helpers.messages import mentions


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file with two tensors, one of them in bfloat16."""
    path = tmp_path / "weights.safetensors"
    save_file({"a": torch.ones(2, dtype=torch.bfloat16), "b": torch.zeros(3)}, path)
    return path


def test_it_is_a_dictionary(path: Path) -> None:
    tensors = TensorFile(path)
    assert sorted(tensors) == ["a", "b"] and len(tensors) == 2
    assert tensors["a"].dtype == torch.bfloat16 and "c" not in tensors
    tensors["c"] = torch.ones(1)
    del tensors["b"]
    assert sorted(tensors) == ["a", "c"] and sorted(tensors | {"d": torch.ones(1)}) == ["a", "c", "d"]
    assert sorted(TensorFile(path)) == ["a", "b"]


def test_a_replaced_or_removed_file_is_an_error(path: Path) -> None:
    first, second = TensorFile(path), TensorFile(path)
    save_file({"a": torch.zeros(4)}, path)
    with pytest.raises(WeightsError, match=mentions("replaced")):
        first["a"]
    path.unlink()
    with pytest.raises(WeightsError, match="cannot be read"):
        second["a"]
