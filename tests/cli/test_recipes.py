"""`rsft recipes ls`."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable

import pytest

from rsft.cli import main


@pytest.fixture
def list_recipes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Run `rsft recipes ls`; return its exit code and everything that it printed."""

    def run(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["rsft", "recipes", "ls", *arguments])
        with pytest.raises(SystemExit) as stop:
            main()
        printed = capsys.readouterr()
        return int(stop.value.code or 0), printed.out + printed.err

    return run


def test_recipes_are_grouped_by_transfer(list_recipes: Callable[..., tuple[int, str]]) -> None:
    code, printed = list_recipes()
    names = re.findall(r"^  (\w+)  +\S", printed, re.MULTILINE)
    assert code == 0 and len(names) >= 25 and f"{len(names)} recipes" in printed
    transfer, below = printed.index("Optical -> SAR, SatMAE ViT-L/16 on FUSRS v2"), printed.index("satmae_sar_adapter ")
    assert transfer < below and printed.count("SatMAE ViT-L/16 on FUSRS v2") == 1


def test_word_selects_recipes(list_recipes: Callable[..., tuple[int, str]]) -> None:
    code, printed = list_recipes("FUSRS")
    assert code == 0 and "satmae_sar_metalora" in printed and "in21k" not in printed
    code, printed = list_recipes("aubergine")
    assert code == 2 and "no recipe contains this word" in printed and "aubergine" in printed
