"""The benchmark of loading an encoder: all loaders return the same tensors."""

from __future__ import annotations

import io
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from rich.console import Console

from rsft.backbones import mae
from tools.benchmarks import weights


@pytest.fixture
def small_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the network by one of 1/16 of the width and two blocks."""
    shape = {"embed_dim": 64, "depth": 2, "num_heads": 4}
    small = replace(mae.CARDS_SATMAE[0], build=partial(mae.build_mae_vit, "narrow", shape, False))
    monkeypatch.setattr(weights, "find_card", lambda name: small)
    monkeypatch.setattr(weights, "DECODER", {"embed_dim": 32, "depth": 1, "num_heads": 4})


def test_all_loaders_return_the_same_tensors(small_encoder: None, tmp_path: Path) -> None:
    size = weights.write_checkpoint(tmp_path / "net.pth")
    first, *others = (load(tmp_path / "net.pth").state_dict() for load in weights.LOADERS.values())
    assert size == sum(tensor.nbytes for tensor in first.values())
    assert all(torch.equal(tensor, other[name]) for other in others for name, tensor in first.items())


def test_costs_table() -> None:
    console = Console(file=io.StringIO(), width=80)
    cost = weights.LoadingCost(peak=1_210_000_000, anonymous=10_000_000, mapped=1_200_000_000, seconds=1.5)
    console.print(weights.costs_table({"rsft": cost}, size=1_100_000_000))
    assert isinstance(console.file, io.StringIO)
    row = next(line for line in console.file.getvalue().splitlines() if "rsft" in line)
    assert [word for word in row.split() if word != "│"] == ["rsft", "1,210", "1.10", "10", "1,200", "1.50"]
