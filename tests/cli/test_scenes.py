"""`rsft prepare dota` and `rsft prepare opensarship`."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from rsft.cli import main
from rsft.data.chips.store import ChipStore
from tests.data.datasets.dota.data import row, write_pair
from tests.data.datasets.opensarship.data import GRD, SLC, write_scene


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["rsft", "prepare", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        main()
    return int(stop.value.code or 0)


@pytest.mark.slow
def test_dota(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    write_pair(tmp_path / "src/train", row(10, 10, 30, 20) + row(40, 10, 43, 20) + row(40, 10, 60, 20, "helipad"))
    words = ("--version", "1.0", "--margin", "2", "--min-side", "5", "--jobs", "1")
    assert run(monkeypatch, "dota", tmp_path / "src", "--root", tmp_path / "out", *words) == 0
    printed = capsys.readouterr().out
    assert "1 chip in" in printed and "1 rejected" in printed and "helipad: not among the 15 classes" in printed
    assert ChipStore.open(tmp_path / "out").table["name"].tolist() == ["P1_8_8_32_22"]
    assert run(monkeypatch, "dota", tmp_path / "src", "--root", tmp_path / "out", "--classes", "16", "--overwrite") == 2
    assert "choose 15 or 18" in capsys.readouterr().err


@pytest.mark.slow
def test_opensarship(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for scene in (GRD, SLC):
        write_scene(tmp_path / "src", scene, {"Cargo_x3_y4": 70, "Tug_x5_y6": 52})
    words = ("--product", "cal", "--classes", "typed", "--val", "0.5", "--test", "0")
    assert run(monkeypatch, "opensarship", tmp_path / "src", "--root", tmp_path / "out", *words) == 0
    assert "4 chips in" in capsys.readouterr().out
    store = ChipStore.open(tmp_path / "out")
    assert store.classes == ("Cargo", "Tug") and sorted(store.table["split"]) == ["train"] * 2 + ["val"] * 2


@pytest.mark.slow
def test_class_that_is_missing_in_a_split(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    write_scene(tmp_path / "src", GRD, {"Cargo_x3_y4": 70, "Tug_x5_y6": 52})
    write_scene(tmp_path / "src", SLC, {"Cargo_x3_y4": 70})
    words = ("--classes", "typed", "--val", "0.4", "--test", "0")
    assert run(monkeypatch, "opensarship", tmp_path / "src", "--root", tmp_path / "out", *words) == 0
    assert "warning: no chip in val: Tug; validation and calibration do not see" in capsys.readouterr().out
