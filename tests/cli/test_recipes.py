"""`rsft recipes`."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from functools import partial

import pytest

from rsft.cli import main
from rsft.recipe.library import list_entries
from rsft.recipe.load import dump_recipe, load_recipe


@pytest.fixture
def recipes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Run `rsft recipes`; return its exit code and everything that it printed."""

    def run(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["rsft", "recipes", *arguments])
        monkeypatch.delenv("COLUMNS", raising=False)
        with pytest.raises(SystemExit) as stop:
            main()
        printed = capsys.readouterr()
        return int(stop.value.code or 0), printed.out + printed.err

    return run


@pytest.fixture
def list_recipes(recipes: Callable[..., tuple[int, str]]) -> Callable[..., tuple[int, str]]:
    """Run `rsft recipes ls`."""
    return partial(recipes, "ls")


def test_recipes_are_grouped_by_transfer(list_recipes: Callable[..., tuple[int, str]]) -> None:
    code, printed = list_recipes()
    names = re.findall(r"^  (\w+)  +\S", printed, re.MULTILINE)
    assert code == 0 and len(names) == 10 and f"{len(names)} recipes" in printed
    transfer, below = printed.index("Optical -> SAR, SatMAE ViT-L/16 on FUSRS v2"), printed.index("satmae_sar_lora ")
    assert transfer < below and printed.count("SatMAE ViT-L/16 on FUSRS v2") == 1


def test_recipes_of_the_paper_are_listed_apart(list_recipes: Callable[..., tuple[int, str]]) -> None:
    assert "41 more reproduce the paper: `rsft recipes ls --paper`" in list_recipes()[1]
    code, printed = list_recipes("--paper")
    assert code == 0 and "in21k_places_lift" in printed and "quickstart" not in printed and "41 recipes" in printed
    code, printed = list_recipes("places")
    assert code == 0 and "0 recipes" not in printed and "more reproduce" in printed


def test_word_selects_recipes(list_recipes: Callable[..., tuple[int, str]]) -> None:
    code, printed = list_recipes("FUSRS")
    assert code == 0 and "satmae_sar_metalora" in printed and "in21k" not in printed
    code, printed = list_recipes("aubergine")
    assert code == 2 and "no recipe contains this word" in printed and "aubergine" in printed


def test_list_has_no_padding(list_recipes: Callable[..., tuple[int, str]]) -> None:
    assert max(map(len, list_recipes()[1].splitlines())) < 200


@pytest.mark.slow
def test_recipes_are_printed_as_they_are_without_a_terminal(recipes: Callable[..., tuple[int, str]]) -> None:
    for entry in list_entries("recipe", "paper"):
        assert recipes("show", entry.name) == (0, entry.path.read_text(encoding="utf-8"))
    path = next(entry.path for entry in list_entries("recipe") if entry.name == "quickstart")
    assert recipes("validate", str(path)) == (0, dump_recipe(load_recipe(path)))
