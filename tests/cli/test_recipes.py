"""`rsft recipes`."""

import re
from functools import partial

import pytest

from rsft.recipe.library import list_entries
from rsft.recipe.load import dump_recipe, load_recipe
from tests.helpers.plugins import needs_plugin


@pytest.fixture
def list_recipes(rsft):
    return partial(rsft, "recipes", "ls")


@needs_plugin("demo", "opensarship")
def test_recipes_are_grouped_by_transfer(list_recipes):
    code, printed = list_recipes()
    names = re.findall(r"^  (\w+)  +\S", printed, re.MULTILINE)
    assert code == 0 and len(names) == 14 and f"{len(names)} recipes" in printed
    transfer = printed.index("Optical -> SAR, SatMAE ViT-L/16 on FUSRS v2")
    below = printed.index("satmae_sar_lora ")
    assert transfer < below and printed.count("SatMAE ViT-L/16 on FUSRS v2") == 1


@needs_plugin("natural_images")
def test_recipes_of_the_paper_are_listed_apart(list_recipes):
    assert "41 more reproduce the paper: `rsft recipes ls paper`" in list_recipes()[1]
    code, printed = list_recipes("paper")
    assert code == 0 and "in21k_places_lift" in printed and "quickstart" not in printed
    code, printed = list_recipes("places")
    assert code == 0 and "in21k_places_lift" in printed


def test_word_selects_recipes(list_recipes):
    code, printed = list_recipes("FUSRS")
    assert code == 0 and "satmae_sar_metalora" in printed and "in21k" not in printed
    code, printed = list_recipes("aubergine")
    assert (
        code == 2
        and "no recipe contains this word" in printed
        and "aubergine" in printed
    )


def test_list_has_no_padding(list_recipes):
    assert max(map(len, list_recipes()[1].splitlines())) < 200


@pytest.mark.slow
def test_recipes_are_printed_as_they_are_without_a_terminal(rsft, monkeypatch):
    monkeypatch.delenv("COLUMNS")
    for entry in list_entries("recipe", "paper"):
        assert rsft("recipes", "show", entry.name) == (
            0,
            entry.path.read_text(encoding="utf-8"),
        )
    path = list_entries("recipe")[0].path
    assert rsft("recipes", "validate", str(path)) == (0, dump_recipe(load_recipe(path)))
