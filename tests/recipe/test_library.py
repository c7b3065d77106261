"""Shipped recipes are found by name and described by their headers."""

from pathlib import Path

import pytest

from rsft.errors import RequestError
from rsft.recipe import library

HEADER = """\
# Demo: optical to SAR
#
# rsft prepare demo --root data/demo
# rsft finetune recipes/demo.yaml
#
# Three minutes
# on two cores.
seed: 0
# not of the header
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    recipes = tmp_path / "shipped"
    recipes.mkdir()
    (recipes / "demo.yaml").write_text(HEADER)
    (recipes / "bare.yaml").write_text("seed: 0\n")
    monkeypatch.setattr(library, "library_folder", lambda: recipes)
    monkeypatch.chdir(tmp_path)
    return recipes


def test_headers(folder):
    bare, demo = library.list_entries("recipe")
    assert (bare.name, bare.title, bare.command, bare.about) == ("bare", "", "", "")
    assert demo == library.LibraryEntry(
        "demo",
        folder / "demo.yaml",
        "Demo: optical to SAR",
        "rsft prepare demo --root data/demo\nrsft finetune recipes/demo.yaml",
        "Three minutes on two cores.",
    )


def test_the_title_has_the_group_before_its_colon():
    bare, demo = library.list_entries("recipe")
    assert (demo.group, bare.group) == ("Demo", "")
    assert (
        demo.matches("TWO CORES")
        and demo.matches("prepare demo")
        and not demo.matches("places")
    )


def test_recipe_is_found_by_name_and_by_path(folder, tmp_path):
    assert (
        library.find_recipe("demo")
        == library.find_recipe("demo.yaml")
        == folder / "demo.yaml"
    )
    (tmp_path / "demo.yaml").touch()
    assert library.find_recipe("demo.yaml") == Path("demo.yaml")
    # their paths in a clone
    for path in (
        "recipes/demo.yaml",
        "./recipes/demo.yaml",
        "recipes/paper/demo.yaml",
    ):
        assert library.find_recipe(path) == folder / "demo.yaml"
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes/demo.yaml").touch()
    assert library.find_recipe("recipes/demo.yaml") == Path("recipes/demo.yaml")


def test_the_commands_before_the_training(folder):
    assert library.read_header(folder / "demo.yaml").first_commands == [
        "rsft prepare demo --root data/demo"
    ]
    assert library.read_header(folder / "bare.yaml").first_commands == []


@pytest.mark.parametrize("name", ["dmeo", "mine/demo.yaml", "recipes/dmeo.yaml"])
def test_unknown_name_has_a_suggestion(name):
    with pytest.raises(RequestError, match="did you mean demo"):
        library.find_recipe(name)


def test_name_without_similar_recipe_has_no_suggestion():
    with pytest.raises(RequestError, match="rsft recipes ls"):
        library.find_recipe("xyz")


def test_sweeps_are_not_listed_as_recipes(folder):
    (folder / "sweeps").mkdir()
    (folder / "sweeps/ranks.yaml").write_text(
        "# Ranks\n# rsft sweep ranks\nrecipe: demo\n"
    )
    assert [entry.name for entry in library.list_entries("sweep")] == ["ranks"]
    assert [entry.name for entry in library.list_entries("recipe")] == ["bare", "demo"]
    assert library.find_recipe("ranks", "sweep") == folder / "sweeps/ranks.yaml"
    with pytest.raises(RequestError, match="did you mean ranks"):
        library.find_recipe("rank", "sweep")
