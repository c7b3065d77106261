import pytest
import torch

from rsft.data.chips.store import ChipStore
from rsft.data.loading.batches import ChipImages
from rsft.models.bundle.bundle import Bundle
from rsft.models.devices import copy_to_device
from rsft.models.loading import build_classifier, load_encoder
from rsft.recipe.load import load_recipe
from rsft.training.init import frozen_features
from rsft.training.init.frozen_features import compute_initial_features


def make_inputs(recipe_file, root, run, *overrides):
    recipe = load_recipe(recipe_file, overrides)
    store = ChipStore.open(root)
    bundle = Bundle.load(run)
    encoder = load_encoder(recipe, store.bands)
    classifier = build_classifier(encoder, 3, recipe)
    return (
        classifier,
        ChipImages(root, store.split("train"), store.classes, bundle.contract),
        encoder.sha256,
    )


@pytest.mark.slow
def test_features_are_computed_once_for_most_methods(
    recipe_file, root, run, monkeypatch
):
    classifier, chips, weights = make_inputs(recipe_file, root, run)
    calls = []
    first = compute_initial_features(
        classifier, chips, weights, 16, lambda *args: calls.append(args)
    )
    expected = torch.cat(
        [
            classifier.features(copy_to_device(inputs, "cpu"))
            for inputs, _ in chips.batches(40)
        ]
    )
    assert torch.allclose(first, expected, atol=1e-5)
    monkeypatch.setattr(frozen_features, "atomic_file", None)
    other, chips, weights = make_inputs(
        recipe_file, root, run, "peft={method: bitfit}", "meta=null"
    )
    assert torch.equal(compute_initial_features(other, chips, weights, 16), first)


@pytest.mark.slow
def test_prompts_change_the_initial_features(recipe_file, root, run, monkeypatch):
    plain = compute_initial_features(*make_inputs(recipe_file, root, run), 16)
    inputs = make_inputs(recipe_file, root, run, "peft={method: vpt-deep}", "meta=null")
    prompted = compute_initial_features(*inputs, 16)
    assert not torch.allclose(plain, prompted, atol=1e-3)


def test_other_weights_have_their_own_cache(recipe_file, root, run, monkeypatch):
    classifier, chips, _ = make_inputs(recipe_file, root, run)
    monkeypatch.setattr(
        type(classifier), "head_inputs", lambda _, inputs: torch.zeros(len(inputs), 2)
    )
    assert compute_initial_features(classifier, chips, "other", 16).shape == (40, 2)


@pytest.mark.slow
def test_earlier_blocks_have_their_own_cache(recipe_file, root, run):
    plain = compute_initial_features(*make_inputs(recipe_file, root, run), 16)
    classifier, chips, weights = make_inputs(
        recipe_file, root, run, "head.earlier_blocks=[0, 1]"
    )
    joined = compute_initial_features(classifier, chips, weights, 16)
    assert torch.allclose(joined[:, :192], plain, atol=1e-5)
    vit = classifier.adapted.vit
    means = []
    vit.blocks[0].register_forward_hook(
        lambda module, args, output: means.append(output[:, 1:].mean(1))
    )
    vit.forward_features(copy_to_device(chips.batch(range(40))[0], "cpu"))
    assert joined.shape == (40, 3 * 192) and torch.allclose(
        joined[:, 192:384], means[0], atol=1e-4
    )
