"""Outputs of a bundle are computed once, and again for other weights, chips or views."""

import time
from dataclasses import replace

import numpy as np
import pytest

from rsft.data.chips.store import ChipStore
from rsft.data.loading.batches import ChipImages
from rsft.models.batch_outputs import collect_outputs
from rsft.models.bundle.bundle import Bundle
from rsft.models.loading import load_classifier
from rsft.training.output_cache import MAX_FILES, load_or_collect_outputs
from tests.helpers.tiny_bundles import perturbed_copy


@pytest.fixture
def chips(root, run):
    bundle = Bundle.load(run)
    store = ChipStore.open(root)
    return ChipImages(root, store.split("val"), bundle.classes, bundle.contract)


@pytest.fixture
def count(monkeypatch):
    calls = []
    monkeypatch.setattr(
        "rsft.training.output_cache.collect_outputs",
        lambda *arguments: calls.append(1) or collect_outputs(*arguments),
    )
    return calls


def outputs_of(bundle, chips, device="cpu"):
    model = load_classifier(bundle, "cpu")
    return load_or_collect_outputs(bundle, model, chips, device)


@pytest.mark.slow
def test_outputs_are_computed_once(run, chips, count):
    bundle = perturbed_copy(perturbed_copy(Bundle.load(run)))
    first, second = (outputs_of(bundle, chips) for _ in range(2))
    assert len(count) == 1 and first.logits.shape == (18, 3)
    np.testing.assert_array_equal(first.logits, second.logits)
    np.testing.assert_array_equal(first.features, second.features)
    expected = collect_outputs(load_classifier(bundle, "cpu"), chips.batches(32))
    np.testing.assert_array_equal(first.logits, expected.logits)
    outputs_of(replace(bundle, calibrator=None, metrics={}), chips)
    assert len(count) == 1


@pytest.mark.slow
def test_other_weights_views_and_devices(run, chips, count):
    bundle = perturbed_copy(Bundle.load(run))
    outputs_of(bundle, chips, "some device")
    assert not np.array_equal(
        outputs_of(bundle, chips).logits, outputs_of(Bundle.load(run), chips).logits
    )
    turned = bundle.recipe.model_copy(
        update={"evaluate": bundle.recipe.evaluate.model_copy(update={"tta": "mirror"})}
    )
    before = len(count)
    outputs_of(replace(bundle, recipe=turned), chips)
    assert len(count) == before + 1


@pytest.mark.slow
def test_damaged_files_and_old_files(run, chips, count):
    bundle = Bundle.load(run)
    expected = outputs_of(bundle, chips)
    folder = chips.cache_file.parent
    for path in folder.glob("*.outputs.npz"):
        path.write_bytes(b"nothing")
    before = len(count)
    np.testing.assert_array_equal(outputs_of(bundle, chips).logits, expected.logits)
    assert len(count) == before + 1
    for index in range(MAX_FILES + 2):
        outputs_of(bundle, chips, f"device {index}")
        time.sleep(0.01)
    assert len(list(folder.glob("*.outputs.npz"))) == MAX_FILES
