import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from rsft.data.chips.store import ChipStore
from rsft.errors import RequestError, RsftError
from rsft.models.bundle.bundle import Bundle
from rsft.recipe.library import find_recipe
from rsft.recipe.load import load_recipe
from rsft.recipe.schema import TrackSection
from rsft.training import small_network
from rsft.training.finetune import finetune
from rsft.training.small_network import (
    predict_with_small_network,
    small_network_recipe,
    train_small_network,
)
from tests.helpers.messages import mentions


@pytest.fixture
def store(root):
    return ChipStore.open(root)


@pytest.fixture
def recipe(store, recipe_file, monkeypatch):
    """Recipe of the small network for the 40 chips of `root`: five epochs of two
    steps."""
    monkeypatch.setattr(small_network, "STEPS", 9)
    return small_network_recipe(load_recipe(recipe_file), store)


def tensors_equal(first, second):
    return first.keys() == second.keys() and all(
        torch.equal(first[name], second[name]) for name in first
    )


def test_the_settings_are_those_of_the_shipped_recipe(store, monkeypatch):
    monkeypatch.setattr(small_network, "STEPS", 100)  # 50 epochs of two steps
    shipped = load_recipe(
        find_recipe("mstar_lt_small"), [f"data.root={store.root}", "name=small-network"]
    )
    assert small_network_recipe(shipped, store) == shipped


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ([], {"size": 32, "augment": "sar"}),
        (["data.augment=none"], {"augment": "optical"}),
        (
            ["data.augment=none", "data.declare=amplitude"],
            {"augment": "sar", "declare": "amplitude"},
        ),
        (
            ["data.augment=natural", "data.size=224"],
            {"augment": "natural", "size": 48, "crop": None},
        ),
        (["data.crop=40"], {"size": 48, "crop": 40}),
        (["data.crop=20"], {"size": 32, "crop": 20}),
        (
            ["data.crop=96", "data.stretch=log1p"],
            {"size": 48, "crop": 96, "stretch": "chip-standard"},
        ),
        (
            ["data.bands=[gray, gray]", "data.unit=uint8"],
            {"bands": ["gray", "gray"], "unit": "uint8"},
        ),
    ],
)
def test_the_input_follows_the_recipe(recipe_file, store, keys, expected):
    data = small_network_recipe(load_recipe(recipe_file, keys), store).data.model_dump()
    assert {key: data[key] for key in expected} == expected


def test_chips_in_a_radar_unit_are_radar_chips(recipe_file, store):
    store = replace(store)
    store.__dict__["units"] = ("sigma0", "uint8")
    assert (
        small_network_recipe(
            load_recipe(recipe_file, ["data.augment=none"]), store
        ).data.augment
        == "sar"
    )


def test_the_number_of_steps_is_fixed_so_few_chips_take_more_epochs(recipe_file, store):
    train = small_network_recipe(load_recipe(recipe_file), store).train
    assert (train.epochs, train.warmup_epochs) == (500, 10)  # two steps each


def test_the_network_is_that_of_finetune_with_the_same_recipe(recipe, tmp_path):
    reports = []
    setup = train_small_network(recipe, progress=lambda *report: reports.append(report))
    assert recipe.train.epochs == 5 and reports[-1] == (5, 5, "small network, epoch")
    run = finetune(recipe.model_copy(update={"track": TrackSection(to=[])}), tmp_path)
    assert tensors_equal(
        setup.classifier.learned_state(), Bundle.load(run.folder).tensors
    )


def test_a_limit_of_time_cuts_the_training_off_without_a_result(
    recipe, tmp_path, monkeypatch
):
    # the limit is passed in the third epoch of two steps
    clock = iter([*[0.0] * 5, *[31.0] * 9])
    monkeypatch.setattr(small_network.time, "process_time", lambda: next(clock))
    with pytest.raises(
        RsftError, match=mentions("epoch 3 of 5", "30 CPU seconds")
    ) as caught:
        predict_with_small_network(recipe, "val", 30, tmp_path / "cache")
    assert (
        caught.value.location == "evaluate.baselines"
        and not (tmp_path / "cache").exists()
    )


@pytest.mark.exhaustive
def test_the_seed_decides_and_the_limit_of_time_does_not(recipe):
    first = train_small_network(recipe, 10000.0)
    second = train_small_network(recipe, 100000.0)
    state = first.classifier.learned_state()
    assert tensors_equal(state, second.classifier.learned_state())
    other = train_small_network(recipe.model_copy(update={"seed": 1}))
    assert not tensors_equal(state, other.classifier.learned_state())


@pytest.fixture
def trained(monkeypatch):
    """Record the limit of time of each training."""
    train = train_small_network
    calls = []

    def train_once(recipe, cpu_seconds, progress):
        calls.append(cpu_seconds)
        return train(recipe, cpu_seconds, progress)

    monkeypatch.setattr(small_network, "train_small_network", train_once)
    return calls


def test_a_second_prediction_does_not_train(recipe, root, tmp_path, trained):
    threads = torch.get_num_threads()
    cache = tmp_path / "cache"
    first = predict_with_small_network(recipe, "val", 99.0, cache)
    second = predict_with_small_network(recipe, "val", 98.0, cache)
    assert trained == [99.0] and torch.get_num_threads() == threads
    assert first.shape == (18, 3)
    np.testing.assert_allclose(first.sum(1), 1, atol=1e-6)
    np.testing.assert_array_equal(first, second)
    (file,) = cache.iterdir()
    file.write_bytes(file.read_bytes()[:100])
    np.testing.assert_array_equal(
        predict_with_small_network(recipe, "val", 99.0, cache), first
    )
    assert trained == [99.0, 99.0]


@pytest.mark.exhaustive
def test_another_split_seed_setting_or_store_trains_again(
    recipe, root, tmp_path, trained
):
    store = shutil.copytree(root, tmp_path / "store")
    recipe = recipe.model_copy(
        update={"data": recipe.data.model_copy(update={"root": str(store)})}
    )
    cache = tmp_path / "cache"
    other_data = recipe.data.model_copy(update={"crop": 30})
    requests = [(recipe, "val", 99.0), (recipe, "train", 99.0)]
    requests += [
        (recipe.model_copy(update=x), "val", 99.0)
        for x in ({"seed": 1}, {"data": other_data})
    ]
    for request in [*requests, requests[0]]:
        predict_with_small_network(*request, cache)
    assert len(trained) == len(requests)
    on_cpu = recipe.model_copy(
        update={"train": recipe.train.model_copy(update={"device": "cpu"})}
    )
    predict_with_small_network(on_cpu, "val", 99.0, cache)
    assert len(trained) == len(requests)
    table = pd.read_parquet(store / "manifest.parquet")
    table.drop(index=table.index[table["split"] == "train"][0]).to_parquet(
        store / "manifest.parquet"
    )
    predict_with_small_network(recipe, "val", 99.0, cache)
    assert len(trained) == len(requests) + 1


def test_an_interruption_leaves_nothing(recipe, root, tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(small_network, "train_epoch", interrupt)
    store = shutil.copytree(
        root, tmp_path / "store", ignore=shutil.ignore_patterns(".cache")
    )
    recipe = recipe.model_copy(
        update={"data": recipe.data.model_copy(update={"root": str(store)})}
    )
    with pytest.raises(KeyboardInterrupt):
        predict_with_small_network(recipe, "val", 9.0, store / ".cache")
    left = {
        path.suffix
        for path in tmp_path.rglob("*")
        if path.is_file() and ".cache" in path.parts
    }
    assert left == {".npy", ""}  # images of the chips, and the lock


def test_a_store_without_validation_chips(recipe, root, tmp_path):
    store = shutil.copytree(root, tmp_path / "store")
    table = pd.read_parquet(store / "manifest.parquet")
    table[table["split"] == "train"].to_parquet(store / "manifest.parquet")
    recipe = recipe.model_copy(
        update={"data": recipe.data.model_copy(update={"root": str(store)})}
    )
    with pytest.raises(RequestError, match="val has no chips"):
        predict_with_small_network(recipe, "train", 9.0, tmp_path)


def test_a_class_without_training_chips(recipe, root, tmp_path, trained):
    store = shutil.copytree(root, tmp_path / "store")
    description = json.loads((store / "dataset.json").read_text())
    description["classes"].append("unseen")
    (store / "dataset.json").write_text(json.dumps(description))
    recipe = recipe.model_copy(
        update={"data": recipe.data.model_copy(update={"root": str(store)})}
    )
    result = predict_with_small_network(recipe, "val", 99.0, tmp_path)
    assert result.shape == (18, 4) and np.isfinite(result).all()
