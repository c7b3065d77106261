"""A shipped recipe is valid, has a complete header, and is comparable with the recipes of the same transfer."""

from __future__ import annotations

import re
from itertools import groupby

import pytest

from rsft.backbones.card import Remote
from rsft.backbones.registry import find_card
from rsft.recipe.library import LibraryEntry, list_recipes
from rsft.recipe.load import load_recipe

RECIPES = list_recipes()
THREE_SCENARIOS = [entry for entry in RECIPES if entry.name.startswith(("satmae_", "in21k_"))]


def test_the_recipes_of_the_paper_exist() -> None:
    methods = "lora metalora adaptformer metaadaptformer adapter metaadapter bitfit vpt_shallow vpt_deep linear_probe"
    expected = {f"{transfer}_{method}" for transfer in ("satmae_sar", "in21k_dota") for method in methods.split()}
    expected |= {f"in21k_dota_{method}" for method in ("lotr", "metalotr", "lift")}
    expected |= {
        f"in21k_{data}_{method}"
        for data in ("cifar100", "places", "inat2018")
        for method in ("lora", "metalora", "adaptformer", "lift", "lora_adaptformer")
    }
    others = ("metaadaptformer", "adapter", "metaadapter", "bitfit", "vpt_shallow", "vpt_deep")  # of Table 4
    expected |= {f"in21k_inat2018_{method}" for method in others}
    assert {entry.name for entry in THREE_SCENARIOS} == expected


@pytest.mark.parametrize("entry", RECIPES, ids=lambda entry: entry.name)
def test_header(entry: LibraryEntry) -> None:
    recipe, commands = load_recipe(entry.path), entry.command.splitlines()
    assert entry.group and 0 < len(entry.subtitle) <= 50
    assert commands[-1] == f"rsft finetune recipes/{entry.name}.yaml"
    assert any(re.match(rf"rsft prepare .*--root {recipe.data.root}\b", command) for command in commands)
    weights = find_card(recipe.backbone.name).weights
    if isinstance(weights, Remote):
        command_start = (
            f"rsft weights get {recipe.backbone.name}"
            if weights.url
            else "python -m tools.maintenance.weights_from_onnx"
        )
        assert any(command.startswith(command_start) for command in commands)
    assert re.search(r"(Expected|Reached): ", entry.about) and re.search(r"Cost(, estimated)?: ", entry.about)


@pytest.mark.parametrize("entry", THREE_SCENARIOS, ids=lambda entry: entry.name)
def test_expected_number_names_its_table_and_groups(entry: LibraryEntry) -> None:
    promise = entry.about.partition("Expected: ")[2].partition("Cost")[0]
    groups = ("head", "tail") if entry.name.startswith("satmae") else ("head", "medium", "tail")
    numbers = ", ".join(rf"{group} \d\d\.\d" for group in groups)
    assert re.match(rf"{numbers} \(paper, Table (4|S6)|the paper has no number|in Table S7", promise)


def test_recipes_of_a_transfer_differ_only_in_their_method() -> None:
    for group, entries in groupby(THREE_SCENARIOS, key=lambda entry: entry.group):
        comparable = [
            entry for entry in entries if not entry.name.endswith("_lift")
        ]  # these also differ in evaluate.tta
        keys = [
            {
                key: value
                for key, value in load_recipe(entry.path).flatten().items()
                if not key.startswith(("peft", "meta"))
            }
            | {"name": group}
            for entry in comparable
        ]
        assert all(values == keys[0] for values in keys)


def test_modulator_starts_at_the_scale_of_the_plain_recipe() -> None:
    for entry in THREE_SCENARIOS:
        recipe = load_recipe(entry.path)
        if recipe.meta is not None:
            plain = load_recipe(entry.path.with_name(entry.path.name.replace("_meta", "_")))
            settings = plain.peft.settings
            scale = 1 / settings["rank"] if settings["scale"] == "1/r" else settings["scale"]
            assert recipe.meta.init_scale == pytest.approx(scale)
