"""Out-of-fold predictions contradict wrong labels, and say which chips could not be
checked."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rsft.data.prepare.image_folder import prepare_folder
from rsft.errors import DataError, RequestError
from rsft.plugins.suggestions.label_audit import (
    ChipFeatures,
    choose_weight,
    predict_out_of_fold,
    read_chip_features,
)
from tests.helpers.messages import mentions

CLASSES = ("dark", "bright")


def make_inputs(labels, x, scenes=None):
    """Return inputs of chips with features and pixels (x, 1)."""
    frame = pd.DataFrame(
        {
            "class": [CLASSES[index] for index in labels],
            "group_key": scenes,
            "mmsi": None,
        }
    )
    frame["sha256"] = [f"{row}" for row in range(len(frame))]
    features = np.column_stack([x, np.ones(len(x))]).astype(np.float32)
    return ChipFeatures(frame, features, features, [])


@pytest.fixture
def store(class_folders, tmp_path):
    """Make a store of bars in which one flat bar is labeled steep, beside a class of
    one chip."""
    source = tmp_path / "source"
    shutil.copytree(class_folders / "train", source)
    (source / "flat" / "0.png").rename(source / "steep" / "wrong.png")
    (source / "rare").mkdir()
    (source / "slanted" / "0.png").rename(source / "rare" / "0.png")
    return prepare_folder(source, tmp_path / "store", val=0)


def test_a_wrong_label_is_contradicted_and_nothing_is_written(store):
    before = {path: path.stat().st_mtime_ns for path in store.root.rglob("*")}
    steps = []
    inputs = read_chip_features(
        store, device="cpu", progress=lambda *step: steps.append(step)
    )
    result = predict_out_of_fold(
        inputs, store.classes, lambda *step: steps.append(step)
    )
    row = result.table["name"].tolist().index("wrong")
    assert store.classes[result.probabilities[row].argmax()] == "flat"
    # of 40, without "rare"
    assert (
        result.probabilities.sum(axis=1) == pytest.approx(1) and len(result.table) == 39
    )
    assert (
        "chips that were not checked, because their class has too few chips or"
        " scenes: 1" in result.notes
    )
    assert any("scene and vessel may check" in note for note in result.notes)
    assert steps[0] == (40, 40, "reading chips") and steps[-1] == (
        5,
        5,
        "cross-validation",
    )
    assert {path: path.stat().st_mtime_ns for path in store.root.rglob("*")} == before
    again = predict_out_of_fold(inputs, store.classes)
    assert (again.probabilities == result.probabilities).all()


def test_chips_that_cannot_be_read_are_left_out(store):
    paths = [store.root / path for path in store.table["path"]]
    paths[3].write_bytes(b"no image")
    inputs = read_chip_features(store, device="cpu")
    assert len(inputs.table) == len(inputs.features) == 39
    assert inputs.notes[0].startswith(
        "chips that cannot be read, and were left out: 1, such as chips/"
    )
    for path in paths:
        path.unlink(missing_ok=True)
    with pytest.raises(DataError, match=mentions("no chip can be read")):
        read_chip_features(store, device="cpu")


def test_chips_of_one_scene_do_not_confirm_each_other():
    """Two chips of scene 0 are dark and labeled bright. Each one would find the other
    among its nearest neighbors."""
    labels = np.array([1, 1, *[0] * 9, *[1] * 9])
    x = np.array([-9.0, -9.0, *[-8.9] * 9, *[9.0] * 9])
    scenes = ["s0", "s0", *(f"s{1 + row % 9}" for row in range(18))]
    result = predict_out_of_fold(make_inputs(labels, x, scenes), CLASSES)
    assert result.table["group_key"].tolist()[:2] == ["s0", "s0"]
    assert result.probabilities.argmax(axis=1).tolist() == [0] * 11 + [1] * 9
    assert not any("scene" in note for note in result.notes)


def test_many_contradicted_labels_are_explained():
    labels = np.arange(40) % 2
    notes = predict_out_of_fold(
        make_inputs(labels, np.random.default_rng(0).normal(size=40)), CLASSES
    ).notes
    assert any("more than a quarter" in note for note in notes)


def test_chips_that_cannot_be_checked_are_refused():
    with pytest.raises(RequestError, match=mentions("no label can be checked")):
        predict_out_of_fold(make_inputs([0, 1], np.arange(2)), CLASSES)


def test_the_weight_follows_the_better_classifier():
    labels = np.arange(40) % 2
    good = np.full((40, 2), 0.1)
    guess = np.full((40, 2), 0.5)
    good[np.arange(40), labels] = 0.9
    assert (
        choose_weight(good, guess, labels) == 0
        and choose_weight(guess, good, labels) == 0.5
    )
    first = good.copy()
    second = good.copy()
    first[:10] = 1 - good[:10]
    second[25:] = 1 - good[25:]  # each one knows what the other one does not
    assert choose_weight(first, second, labels) in (0.35, 0.4)  # the maximum is 0.375


def test_relative_paths(store, monkeypatch):
    monkeypatch.chdir(store.root.parent)
    relative = type(store).open(Path(store.root.name))
    assert len(read_chip_features(relative, device="cpu").table) == 40
