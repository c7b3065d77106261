"""The recipes of the paper on photographs."""

from rsft.recipe.library import list_entries
from rsft.recipe.load import load_recipe

DATA_SETS = ("cifar100", "places", "inat2018")
RECIPES = [
    entry
    for entry in list_entries("recipe", "paper")
    if entry.name.startswith(tuple(f"in21k_{data}_" for data in DATA_SETS))
]


def test_the_recipes_of_the_paper_exist():
    methods = ("lora", "metalora", "adaptformer", "lift", "lora_adaptformer")
    expected = {f"in21k_{data}_{method}" for data in DATA_SETS for method in methods}
    # of Table 4
    others = (
        "metaadaptformer",
        "adapter",
        "metaadapter",
        "bitfit",
        "vpt_shallow",
        "vpt_deep",
    )
    expected |= {f"in21k_inat2018_{method}" for method in others}
    assert {entry.name for entry in RECIPES} == expected


def test_low_rank_modules_start_as_those_of_the_authors():
    recipes = [load_recipe(entry.path) for entry in RECIPES]
    low_rank = [recipe for recipe in recipes if "rank" in recipe.peft.settings]
    assert len(low_rank) == 9
    assert {recipe.peft.settings["init"] for recipe in low_rank} == {"rank"}
    assert {
        recipe.peft.settings["alpha"] for recipe in low_rank if recipe.meta is None
    } <= {1, 4}
