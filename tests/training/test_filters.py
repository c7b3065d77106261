from rsft.recipe.library import find_recipe
from rsft.recipe.load import load_recipe
from rsft.training.filters import find_absence, spread_filters
from tests.helpers.plugins import needs_plugin


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


@needs_plugin("encoders")
def test_a_candidate_without_weights_or_for_other_chips_is_absent(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("RSFT_WEIGHTS", str(tmp_path))
    recipe = load_recipe(find_recipe("efficientnet_lite0"), ["data.root=chips"])
    assert "the other kind" in find_absence(recipe, "sar")
    assert "rsft weights get efficientnet-lite0" in find_absence(recipe, "optical")
    (tmp_path / "efficientnet-lite0.safetensors").touch()
    assert find_absence(recipe, "optical") == ""
    own = load_recipe(find_recipe("lora"), ["data.root=chips"])
    assert find_absence(own, "sar") == find_absence(own, "optical") == ""
    unknown = load_recipe(
        find_recipe("lora"), ["data.root=chips", "backbone.name=unknown"]
    )
    assert find_absence(unknown, "sar") == ""
