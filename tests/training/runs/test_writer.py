"""A run folder appears whole, with the next free number."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rsft.recipe.load import load_recipe
from rsft.recipe.schema import Recipe
from rsft.training.runs.reader import find_runs, is_running
from rsft.training.runs.writer import Run


@pytest.fixture
def recipe(recipe_file: Path) -> Recipe:
    return load_recipe(recipe_file)


def test_numbers_follow_the_highest_one(recipe: Recipe, tmp_path: Path) -> None:
    first = Run.create(recipe, tmp_path)
    (tmp_path / recipe.name / "007").mkdir()
    second = Run.create(recipe, tmp_path)
    assert [run.folder.name for run in (first, second)] == ["001", "008"]
    assert json.loads((second.folder / "run.json").read_text())["status"] == "running"
    assert is_running(second.folder)


def test_nothing_is_left_of_a_run_that_could_not_begin(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as context, pytest.raises(KeyboardInterrupt):
        context.setattr(Run, "update", stop)
        Run.create(recipe, tmp_path)
    assert find_runs(tmp_path) == [] and list((tmp_path / recipe.name).iterdir()) == []


def test_a_number_that_another_process_takes_is_left_to_it(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    update = Run.update

    def take_the_number(run: Run, **entries: object) -> None:
        other = tmp_path / recipe.name / "001"
        if not other.exists():
            other.mkdir()
            (other / "run.json").write_text("of another process")
        update(run, **entries)

    monkeypatch.setattr(Run, "update", take_the_number)
    run = Run.create(recipe, tmp_path)
    assert run.folder.name == "002" and (run.folder / "recipe.yaml").is_file()
    assert (tmp_path / recipe.name / "001/run.json").read_text() == "of another process"
