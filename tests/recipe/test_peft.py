from dataclasses import fields

import pytest

from rsft.errors import RecipeError
from rsft.peft import METHODS as CLASSES
from rsft.recipe.load import dump_recipe, load_recipe
from rsft.recipe.schema import METHODS

BASE = "data: {root: x, size: 32}\ntrain: {epochs: 1}\n"


def recipe(folder, peft):
    (folder / "x.yaml").write_text(BASE + f"peft: {peft}\n")
    return load_recipe(folder / "x.yaml")


def test_methods_and_their_keys_are_those_of_the_classes():
    assert set(METHODS) == set(CLASSES) - {"together"}
    for name, method in METHODS.items():
        assert set(method.keys) == {field.name for field in fields(CLASSES[name])}, name


@pytest.mark.parametrize("method", METHODS)
def test_every_method_loads_dumps_and_loads(tmp_path, method):
    loaded = recipe(tmp_path, f"{{method: {method}}}")
    text = dump_recipe(loaded)
    (tmp_path / "y.yaml").write_text(text)
    assert load_recipe(tmp_path / "y.yaml") == loaded
    assert ("prompts:" in text) == (method in ("vpt-shallow", "vpt-deep"))


def test_a_key_that_the_method_does_not_take(tmp_path):
    with pytest.raises(RecipeError) as caught:
        recipe(tmp_path, "{method: adapter, rank: 4}")
    assert "peft.rank: found 4; nothing: the method adapter takes dim, blocks, scale, dropout" in str(caught.value)


def test_settings_by_pattern(tmp_path):
    loaded = recipe(tmp_path, "{rank: {blocks.*.q: 8, '*': 2}, blocks: 0-3, scale: {'*': 0.5}}")
    assert loaded.peft.rank == {"blocks.*.q": 8, "*": 2}
    (tmp_path / "y.yaml").write_text(dump_recipe(loaded))
    assert load_recipe(tmp_path / "y.yaml") == loaded
