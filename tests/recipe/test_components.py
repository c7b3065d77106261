"""The section `peft` takes its keys from the dataclasses of the methods."""

from dataclasses import fields

import pytest

from rsft.errors import RecipeError
from rsft.peft.methods.registry import METHODS
from rsft.recipe.load import dump_recipe, load_recipe
from tests.helpers.files import written

BASE = "data: {root: x, size: 32}\ntrain: {epochs: 1}\n"


def recipe(folder, peft):
    return load_recipe(written(folder / "x.yaml", BASE + f"peft: {peft}\n"))


@pytest.mark.parametrize("method", list(METHODS))
def test_the_keys_of_a_method_are_the_fields_of_its_dataclass(tmp_path, method):
    peft = recipe(tmp_path, f"{{method: {method}}}").peft
    assert peft.build() == METHODS[method]()
    assert list(peft.settings) == [field.name for field in fields(METHODS[method])]


@pytest.mark.parametrize("method", list(METHODS))
def test_every_method_loads_dumps_and_loads(tmp_path, method):
    loaded = recipe(tmp_path, f"{{method: {method}}}")
    text = dump_recipe(loaded)
    assert load_recipe(written(tmp_path / "y.yaml", text)) == loaded
    assert ("prompts:" in text) == (method in ("vpt-shallow", "vpt-deep"))


def test_key_of_another_method_is_a_fault(tmp_path):
    with pytest.raises(RecipeError) as caught:
        recipe(tmp_path, "{method: adapter, rank: 4}")
    assert (
        "peft.rank: found 4; nothing: the PEFT method adapter takes dim, blocks, scale,"
        " dropout" in str(caught.value)
    )


def test_unknown_method_is_a_fault(tmp_path):
    with pytest.raises(RecipeError) as caught:
        recipe(tmp_path, "{method: lorra, rank: -1, rnk: 2, blocks: all}")
    assert [str(fault).partition(": ")[2] for fault in caught.value.faults] == [
        f"peft.method: found lorra; {' | '.join(METHODS)}"
    ]


def test_faulty_and_unknown_settings_are_faults(tmp_path):
    with pytest.raises(RecipeError) as caught:
        recipe(tmp_path, "{method: lora, rank: -1, rnk: 2, blocks: all}")
    assert [str(fault).partition(": ")[2] for fault in caught.value.faults] == [
        (
            "peft.rank: found -1; a whole number >= 1, or numbers by pattern of sites,"
            " such as {blocks.*.q: 8, '*': 4}"
        ),
        "peft.rnk: found 2; no such key; did you mean peft.rank?",
    ]


def test_values_by_pattern(tmp_path):
    loaded = recipe(
        tmp_path, "{rank: {blocks.*.q: 8, '*': 0}, blocks: 0-3, scale: {'*': 0.5}}"
    )
    assert loaded.peft.settings["rank"] == {"blocks.*.q": 8, "*": 0}
    assert load_recipe(written(tmp_path / "y.yaml", dump_recipe(loaded))) == loaded


def test_positions_by_letter_or_by_name(tmp_path):
    assert recipe(tmp_path, "{positions: 12}").peft.settings["positions"] == "12"
    named = recipe(tmp_path, "{positions: [q, v, mlp1]}")
    assert named.peft.settings["positions"] == ["q", "v", "mlp1"]
    assert load_recipe(written(tmp_path / "y.yaml", dump_recipe(named))) == named


@pytest.mark.parametrize(
    ("peft", "words"),
    [
        ("{rank: {'*': -1}}", "numbers by pattern of sites"),
        ("{blocks: [-1]}", "a list of whole numbers >= 0"),
        ("{positions: [q, mlp3]}", "a list of q | k | v | out | mlp1 | mlp2"),
        ("{scale: 0}", "a number > 0, or 1/r | learnable"),
        ("{dropout: {'*': 1}}", "a number >= 0 and < 1"),
        ("{method: 3}", "lora | lotr"),
    ],
)
def test_values_that_are_not_allowed(tmp_path, peft, words):
    with pytest.raises(RecipeError) as caught:
        recipe(tmp_path, peft)
    (fault,) = caught.value.faults
    assert words in fault.allowed
