"""Keys of a stranger's bundle that do not act."""

from rsft.models.bundle.foreign_keys import default_value, find_foreign_keys
from rsft.recipe.load import load_recipe
from tests.helpers.plugins import needs_plugin

OVERRIDES = [
    "track.to=[tensorboard]",
    "data.workers=3",
    "train.device=cuda",
    "backbone.weights=/home/a/x.safetensors",
]


@needs_plugin("trackers")
def test_a_bundle_alone_and_in_the_folder_of_its_run(recipe_file, tmp_path):
    recipe = load_recipe(recipe_file, OVERRIDES)
    foreign = find_foreign_keys(recipe, tmp_path / "run/bundle")
    assert foreign["track.to"] == ["tensorboard"]
    assert foreign["train.device"] == "cuda" and foreign["data.workers"] == 3
    assert foreign["data.root"] == recipe.data.root
    assert foreign["backbone.weights"].endswith("x.safetensors")
    (tmp_path / "run").mkdir()
    (tmp_path / "run/run.json").write_text("{}")
    own = find_foreign_keys(recipe, tmp_path / "run/bundle")
    assert set(foreign) - set(own) == {"data.root", "backbone.weights"}


def test_only_values_that_differ_from_the_defaults(recipe_file, tmp_path):
    recipe = load_recipe(recipe_file)
    for key, value in find_foreign_keys(recipe, tmp_path / "b").items():
        assert value != default_value(key), key
    assert default_value("data.root") is None
