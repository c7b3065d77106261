"""`rsft prepare dota`."""

import pytest

from rsft.data.chips.store import ChipStore
from tests.data.datasets.dota.data import row, write_pair


@pytest.mark.slow
def test_dota(rsft, tmp_path):
    write_pair(
        tmp_path / "src/train",
        row(10, 10, 30, 20) + row(40, 10, 43, 20) + row(40, 10, 60, 20, "helipad"),
    )
    words = ("--version", "1.0")
    code, printed = rsft("prepare", "dota", "src", "--root", "out", *words)
    assert code == 0 and "1 chip in" in printed and "1 rejected" in printed
    assert "helipad: not among the 15 classes" in printed
    assert ChipStore.open(tmp_path / "out").table["name"].tolist() == ["P1_10_10_30_20"]
    code, printed = rsft(
        "prepare", "dota", "src", "--root", "out", "--classes", "16", "--overwrite"
    )
    assert code == 2 and "choose one of 15, 18" in printed
