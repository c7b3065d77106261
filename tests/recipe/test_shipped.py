"""A shipped recipe is valid, has a complete header, and is comparable with the recipes
of the same transfer."""

import math
import re
from itertools import groupby
from operator import attrgetter

import pytest

from rsft.backbones.card import Remote
from rsft.backbones.loading import find_card
from rsft.recipe.library import find_recipe, list_entries
from rsft.recipe.load import load_recipe

RECIPES = list_entries("recipe", "paper")
THREE_SCENARIOS = [
    entry for entry in RECIPES if entry.name.startswith(("satmae_", "in21k_"))
]
SHIPS_AND_OBJECTS = [
    entry
    for entry in THREE_SCENARIOS
    if entry.name.startswith(("satmae_sar_", "in21k_dota_"))
]
"""The recipes of the paper whose data sets no plug-in prepares."""


def test_the_recipes_of_the_paper_exist():
    methods = (
        "lora metalora adaptformer metaadaptformer adapter metaadapter bitfit"
        " vpt_shallow vpt_deep linear_probe"
    )
    expected = {
        f"{transfer}_{method}"
        for transfer in ("satmae_sar", "in21k_dota")
        for method in methods.split()
    }
    expected |= {f"in21k_dota_{method}" for method in ("lotr", "metalotr", "lift")}
    assert {entry.name for entry in SHIPS_AND_OBJECTS} == expected


@pytest.mark.parametrize("entry", RECIPES, ids=lambda entry: entry.name)
def test_header(entry):
    recipe = load_recipe(entry.path)
    commands = entry.command.splitlines()
    assert entry.group and 0 < len(entry.title.rpartition(": ")[2]) <= 50
    folder = "recipes/paper" if entry.path.parent.name == "paper" else "recipes"
    assert commands[-1] == f"rsft finetune {folder}/{entry.name}.yaml"
    assert any(
        re.match(rf"rsft prepare .*--root {recipe.data.root}\b", command)
        for command in commands
    )
    weights = find_card(recipe.backbone.name).weights
    if isinstance(weights, Remote):
        command_start = (
            f"rsft weights get {recipe.backbone.name}"
            if weights.url
            else "python -m tools.maintenance.weights_from_onnx"
        )
        assert any(command.startswith(command_start) for command in commands)
    assert re.search(r"(Expected|Reached): ", entry.about) and re.search(
        r"Cost(, estimated)?: ", entry.about
    )


@pytest.mark.parametrize("entry", THREE_SCENARIOS, ids=lambda entry: entry.name)
def test_expected_number_names_its_table_and_groups(entry):
    promise = entry.about.partition("Expected: ")[2].partition("Cost")[0]
    groups = (
        ("head", "tail")
        if entry.name.startswith("satmae")
        else ("head", "medium", "tail")
    )
    numbers = ", ".join(rf"{group} \d\d\.\d" for group in groups)
    assert re.match(
        rf"{numbers} \(paper, Table (4|S6)|the paper has no number|in Table S7", promise
    )


def test_recipes_of_a_transfer_differ_only_in_their_method():
    """Beside their method, only the learning rate of LoRA's modules on SAR and the
    epochs of MetaPEFT differ."""
    for group, entries in groupby(
        sorted(THREE_SCENARIOS, key=attrgetter("group")), key=attrgetter("group")
    ):
        # recipes called *_lift also differ in evaluate.tta
        comparable = [entry for entry in entries if not entry.name.endswith("_lift")]
        keys = [
            {
                key: value
                for key, value in load_recipe(entry.path).flatten().items()
                if not key.startswith(("peft", "meta"))
                and key not in ("train.lr", "train.head_lr", "train.epochs")
            }
            | {"name": group}
            for entry in comparable
        ]
        assert all(values == keys[0] for values in keys)


@pytest.mark.parametrize("entry", THREE_SCENARIOS, ids=lambda entry: entry.name)
def test_learning_rates_are_those_of_the_authors(entry):
    train = load_recipe(entry.path).train
    is_lora_on_sar = entry.name in ("satmae_sar_lora", "satmae_sar_metalora")
    assert (train.lr, train.head_lr) == (
        (0.02, 0.01) if is_lora_on_sar else (0.01, None)
    )


META_SETTINGS = {
    "in21k_cifar100": (2, 0.2),
    "in21k_places": (3, 0.2),
    "in21k_inat2018": (3, 0.2),
    "in21k_dota": (3, 0.2),
    "satmae_sar": (2, 0.1),
}
"""K and the share of the meta subset in the authors' configs/data, by the start of the
recipe's name."""


def test_meta_settings_are_those_of_the_authors():
    """The epochs make up for the steps that the hold-out takes away."""
    for entry in THREE_SCENARIOS:
        recipe = load_recipe(entry.path)
        data = "_".join(entry.name.split("_")[:2])
        epochs = 20 if data == "in21k_inat2018" else 10
        if recipe.meta is None:
            assert recipe.train.epochs == epochs
        else:
            assert (recipe.meta.outer_every, recipe.meta.ratio) == META_SETTINGS[data]
            assert recipe.train.epochs == math.ceil(epochs / (1 - recipe.meta.ratio))


def test_low_rank_modules_start_as_those_of_the_authors():
    recipes = {entry.name: load_recipe(entry.path) for entry in SHIPS_AND_OBJECTS}
    low_rank = {
        name: recipe.peft.settings
        for name, recipe in recipes.items()
        if "rank" in recipe.peft.settings
    }
    assert len(low_rank) == 6 and {
        settings["init"] for settings in low_rank.values()
    } == {"rank"}
    alphas = {
        name: settings["alpha"]
        for name, settings in low_rank.items()
        if recipes[name].meta is None
    }
    assert {name for name, alpha in alphas.items() if alpha == 4} == {
        "satmae_sar_lora",
        "in21k_dota_lotr",
    }
    assert set(alphas.values()) == {1, 4}


def test_modules_on_sar_are_in_half_of_the_blocks():
    for method in ("lora", "adapter", "adaptformer"):
        for name in (f"satmae_sar_{method}", f"satmae_sar_meta{method}"):
            (entry,) = (entry for entry in THREE_SCENARIOS if entry.name == name)
            assert load_recipe(entry.path).peft.settings["blocks"] == "0-11"


@pytest.mark.slow
def test_modulator_starts_at_the_scale_of_the_plain_recipe():
    for entry in THREE_SCENARIOS:
        recipe = load_recipe(entry.path)
        if recipe.meta is not None:
            plain = load_recipe(find_recipe(entry.name.replace("_meta", "_")))
            settings = plain.peft.settings
            scale = (
                settings["alpha"] / settings["rank"]
                if "rank" in settings
                else settings["scale"]
            )
            assert recipe.meta.init_scale == pytest.approx(scale)


def test_comments_name_no_other_repository_than_the_papers_and_its_base():
    for entry in THREE_SCENARIOS:
        repositories = re.findall(
            r"github\.com/[\w/]+\w", entry.path.read_text("utf-8")
        )
        assert repositories == ["github.com/doem97/metalora", "github.com/shijxcs/LIFT"]
