"""The classifier of a recipe, and that of a bundle."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from rsft.backbones import load_backbone
from rsft.backbones.loading import find_card
from rsft.errors import RequestError, WeightsError
from rsft.models.bundle.bundle import Bundle
from rsft.models.loading import build_classifier, load_classifier, load_encoder
from tests.helpers.messages import mentions
from tests.helpers.tiny_bundles import copy_with_early_head

CHIPS = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.mark.slow
@pytest.mark.parametrize("make_copy", [lambda bundle: bundle, copy_with_early_head])
def test_merged_bundle_equals_the_trained_classifier(run, make_copy, tmp_path):
    make_copy(Bundle.load(run)).save(tmp_path / "bundle")
    bundle = Bundle.load(tmp_path / "bundle")
    recipe = bundle.recipe
    encoder = load_encoder(recipe, bundle.contract.bands)
    trained = build_classifier(encoder, 3, recipe)
    trained.load_learned_state(bundle.tensors)
    merged = load_classifier(bundle, "cpu")
    with torch.no_grad():
        assert torch.allclose(trained.eval()(CHIPS), merged(CHIPS), atol=1e-4)
        assert torch.allclose(
            trained.features(CHIPS), merged.predict(CHIPS).features, atol=1e-4
        )
        assert merged.predict(CHIPS).features.shape == (2, 192)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["timm:vit_medium_patch16_rope_reg1_gap_256", "timm:vit_relpos_small_patch16_224"],
)
def test_pooling_of_a_class_token_that_does_not_exist_is_refused(run, name, tmp_path):
    card = find_card(name)
    save_file(card.build(card.size).state_dict(), tmp_path / "x.safetensors")
    encoder = load_backbone(name, card.size, tmp_path / "x.safetensors")
    recipe = Bundle.load(run).recipe
    averaged = recipe.model_copy(
        update={"backbone": recipe.backbone.model_copy(update={"pool": "avg"})}
    )
    assert recipe.backbone.pool == "token"
    with pytest.raises(RequestError, match=r"has no class token .*backbone\.pool=avg"):
        build_classifier(encoder, 3, recipe)
    logits = build_classifier(encoder, 3, averaged)(
        torch.zeros(1, 3, card.size, card.size)
    )
    assert logits.shape == (1, 3)


def test_modulator_changes_predictions(run):
    bundle = Bundle.load(run)
    off = replace(
        bundle,
        tensors=bundle.tensors
        | {"gamma": torch.full_like(bundle.tensors["gamma"], -30)},
    )
    with torch.no_grad():
        assert not torch.allclose(
            load_classifier(bundle, "cpu")(CHIPS),
            load_classifier(off, "cpu")(CHIPS),
            atol=1e-4,
        )


def test_other_backbone(run):
    with pytest.raises(WeightsError, match=mentions("differ", "training")):
        load_classifier(replace(Bundle.load(run), backbone_sha256="0" * 64))


def test_tensors_of_wrong_shape(run):
    bundle = Bundle.load(run)
    tensors = {
        key: value for key, value in bundle.tensors.items() if key != "head.weight"
    }
    with pytest.raises(WeightsError, match="adapter or head"):
        load_classifier(replace(bundle, tensors=tensors))
