from rsft.recipe.library import find_recipe
from rsft.recipe.load import load_recipe
from rsft.training.filters import spread_filters


def test_other_bands_than_those_of_the_encoder():
    pretrained = load_recipe(find_recipe("lora"), ["data.root=chips"])
    recipe, note = spread_filters(pretrained, ("VV", "VH"))
    assert recipe.data.remap == "expand" and "VV, VH" in note
    for bands in (("gray",), ("NIR", "R", "G", "B")):
        assert spread_filters(pretrained, bands) == (pretrained, "")
    random = load_recipe(find_recipe("small_network"), ["data.root=chips"])
    assert spread_filters(random, ("VV", "VH")) == (random, "")
    keys = ["data.root=chips", "data.bands=[VV, VH, VV - VH]"]
    named = load_recipe(find_recipe("lora"), keys)
    assert spread_filters(named, ("VV", "VH")) == (named, "")
