"""Folds of the training chips: shares of classes, chips that belong together, and
classes with few chips."""

import numpy as np
import pandas as pd
import pytest

from rsft.data.chips.folds import SHARED_KEYS, assign_folds, open_store, split_fold
from rsft.data.chips.manifest import SPLITS
from rsft.errors import RecipeError, RequestError
from rsft.recipe.load import load_recipe


def chips(classes, **columns):
    table = pd.DataFrame(
        {
            "class": list(classes),
            "sha256": [f"{index:x}" for index in range(len(classes))],
        }
    )
    return table.assign(
        **{"split": "train", "group_key": None, "mmsi": None, **columns}
    )


def test_each_class_has_an_equal_share_in_each_fold():
    train = chips("a" * 30 + "b" * 9 + "c" * 4)
    folds, keys = assign_folds(train, 3)
    counts = pd.crosstab(train["class"], folds)
    assert counts.loc["a"].tolist() == [10, 10, 10] and counts.loc["b"].tolist() == [
        3,
        3,
        3,
    ]
    assert sorted(counts.loc["c"]) == [1, 1, 2] and keys == SHARED_KEYS[0]
    assert np.array_equal(folds, assign_folds(train.assign(name="x"), 3)[0])


def test_a_class_always_has_a_chip_outside_of_a_fold():
    train = chips("a" * 12 + "bb" + "c")
    folds, _ = assign_folds(train, 3)
    assert (
        folds[-1] == 0 and len(set(folds[12:14])) == 2 and set(folds[:12]) == {1, 2, 3}
    )


def test_chips_of_a_scene_a_vessel_or_a_file_are_in_one_fold():
    scenes = [f"s{index // 2}" for index in range(24)]
    train = chips("ab" * 12, group_key=scenes)
    train.loc[[1, 2], "mmsi"] = "211"  # connects the first two scenes
    train.loc[[5, 6], "sha256"] = "same"
    folds, keys = assign_folds(train, 3)
    assert keys == SHARED_KEYS[0] and set(folds) == {1, 2, 3}
    assert len(set(folds[:4])) == 1 and len(set(folds[4:8])) == 1
    assert pd.Series(folds).groupby(scenes).nunique().max() == 1


def test_a_class_of_one_scene_keeps_this_scene_out_of_all_folds():
    train = chips("ab" * 6 + "cc", group_key=[f"s{index // 2}" for index in range(14)])
    folds, _ = assign_folds(train, 3)
    assert folds[12:].tolist() == [0, 0] and set(folds[:12]) == {1, 2, 3}


def test_too_few_scenes_are_shared_by_folds():
    train = chips(
        "a" * 12 + "b" * 6,
        group_key=["north"] * 18,
        mmsi=[f"{index // 2}" for index in range(18)],
    )
    folds, keys = assign_folds(train, 3)
    assert keys == ("sha256", "mmsi") and set(folds) == {1, 2, 3}
    assert pd.Series(folds).groupby(train["mmsi"]).nunique().max() == 1


def test_splits_of_a_fold(root):
    store = open_store(root, "2/3")
    whole = open_store(root, None)
    assert len(store.table) == len(whole.table) and store.split("test").empty
    assert (
        len(store.split("train")) + len(store.split("val"))
        == len(whole.split("train"))
        == 40
    )
    assert set(store.split("val")["path"]) < set(whole.split("train")["path"])
    assert (store.table["split"] == "").sum() == 18  # the validation chips of the store
    for split in SPLITS:
        assert store.class_counts(split).tolist() == [
            sum(store.split(split)["class"] == x) for x in store.classes
        ]
    held_out = [
        set(open_store(root, f"{number}/3").split("val")["path"])
        for number in (1, 2, 3)
    ]
    assert sum(map(len, held_out)) == len(set.union(*held_out)) == 40


def test_a_fold_without_chips(root):
    with pytest.raises(RequestError, match="fold 3/3 has no chip"):
        split_fold(chips("aab"), "3/3", root)


@pytest.mark.parametrize("fold", ["0/3", "4/3", "1/1", "third", "1/3/3"])
def test_the_recipe_key(recipe_file, fold):
    assert load_recipe(recipe_file, ["data.fold=1/3"]).data.fold == "1/3"
    with pytest.raises(RecipeError) as caught:
        load_recipe(recipe_file, [f"data.fold={fold}"])
    assert "such as 1/3" in caught.value.faults[0].allowed
