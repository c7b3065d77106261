"""Averages of predictions. Outputs of a bundle are computed once, and again for other
weights, chips or views."""

from math import exp, log
from typing import get_args

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from rsft.models.averaging import Ensemble, with_tta
from rsft.models.classifier import Classifier, CosineHead, HeadAverage, Prediction
from rsft.models.outputs import VIEWS, take_crops
from rsft.peft import LoRA, attach
from rsft.recipe.schema import EvaluateSection
from tests.helpers.scenes import toy_contract

IMAGES = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
CONTRACT = toy_contract(units={}, bands=("gray",), planes=("gray",) * 3, size=16)


def classifier(seed, blocks=()):
    torch.manual_seed(0)
    vit = VisionTransformer(
        img_size=16, patch_size=8, embed_dim=24, depth=2, num_heads=2, num_classes=0
    ).eval()
    adapted = attach(vit, LoRA(rank=2), learn_scales=True)
    torch.manual_seed(seed)
    for parameter in [*adapted.theta, *adapted.gamma]:
        nn.init.normal_(parameter, std=0.3)
    final, *others = (CosineHead(24, 3, scale=10.0) for _ in range(1 + len(blocks)))
    head = (
        HeadAverage(final, dict(zip(blocks, others, strict=True))) if blocks else final
    )
    return Classifier(adapted, head, "token").eval()


def states(*classifiers):
    return [
        {key: value.clone() for key, value in classifier.learned_state().items()}
        for classifier in classifiers
    ]


@torch.no_grad()
@pytest.mark.parametrize("blocks", [(), (0,)])
def test_ensemble_is_the_mean_of_probabilities(blocks):
    members = [classifier(seed, blocks) for seed in (1, 2, 3)]
    ensemble = Ensemble(classifier(4, blocks), states(*members))
    expected = torch.stack(
        [classifier(IMAGES).softmax(1) for classifier in members]
    ).mean(0)
    for _ in range(2):  # independent of earlier exchanges
        assert torch.allclose(ensemble(IMAGES).softmax(1), expected, atol=1e-6)
    features = torch.stack(
        [classifier.features(IMAGES) for classifier in members]
    ).mean(0)
    assert torch.allclose(ensemble.predict(IMAGES).features, features, atol=1e-5)


@torch.no_grad()
def test_members_pruned_at_different_sites():
    weak = classifier(1)
    strong = classifier(2)
    weak.adapted.prune(float(sorted(weak.adapted.modulator.scales().values())[4]))
    assert list(weak.adapted.modulator.scales().values()).count(0) == 4
    ensemble = Ensemble(classifier(4), states(weak, strong))
    expected = (weak(IMAGES).softmax(1) + strong(IMAGES).softmax(1)) / 2
    for _ in range(2):
        assert torch.allclose(ensemble(IMAGES).softmax(1), expected, atol=1e-6)


def test_five_and_ten_crops():
    image = torch.arange(30.0).reshape(1, 1, 5, 6)
    five = take_crops(image, 3)
    assert [int(crop[0, 0, 0, 0]) for crop in five] == [0, 3, 12, 15, 7]
    assert all(crop.shape == (1, 1, 3, 3) for crop in five)
    ten = VIEWS["ten-crop"](image, 3)
    assert len(ten) == 10 and torch.equal(ten[9], five[4].flip(3))
    assert all(torch.equal(*pair) for pair in zip(ten[:5], five, strict=True))


def test_mirror_image_and_turns():
    image = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    assert [view.flatten().tolist() for view in VIEWS["mirror"](image, 2)] == [
        [1, 2, 3, 4],
        [2, 1, 4, 3],
    ]
    turned = [[1, 2, 3, 4], [2, 4, 1, 3], [4, 3, 2, 1], [3, 1, 4, 2]]
    mirrored = [[2, 1, 4, 3], [1, 3, 2, 4], [3, 4, 1, 2], [4, 2, 3, 1]]
    assert [
        view.flatten().tolist() for view in VIEWS["turns"](image, 2)
    ] == turned + mirrored


def test_every_value_of_the_key_has_views():
    assert {"none", *VIEWS} == set(
        get_args(EvaluateSection.model_fields["tta"].annotation)
    )


class TopLeftPixel:
    """A classifier without symmetry: the logits are 0 and the top left pixel, the
    feature is that pixel."""

    def predict(self, x):
        pixel = x[:, 0, 0, :1]
        return Prediction(torch.cat([torch.zeros_like(pixel), pixel], 1), pixel)


@pytest.mark.parametrize(
    ("tta", "corners"), [("mirror", [0, 1]), ("turns", [0, 1, 2, 3])]
)
def test_average_of_probabilities_by_hand(tta, corners):
    images = torch.tensor(
        [[log(3.0), log(1 / 3), log(7.0), 0.0], [0.0, log(9.0), log(4.0), 2.0]]
    ).view(2, 1, 2, 2)
    views, contract = with_tta(TopLeftPixel(), CONTRACT, EvaluateSection(tta=tta))
    assert contract == CONTRACT
    prediction = views.predict(images)
    for image, probabilities in zip(images, prediction.logits.exp(), strict=True):
        pixels = image.flatten()[corners].tolist()
        # turns: each corner is top left twice
        by_hand = sum(exp(x) / (1 + exp(x)) for x in pixels) / len(pixels)
        assert probabilities.tolist() == pytest.approx([1 - by_hand, by_hand], abs=1e-6)
    means = images.flatten(1)[:, corners].mean(1, keepdim=True)
    assert torch.allclose(prediction.features, means, atol=1e-6)
    if tta == "mirror":
        # (3/4 + 1/4) / 2
        assert prediction.logits[0].exp().tolist() == pytest.approx(
            [0.5, 0.5], abs=1e-6
        )
        # (1/2 + 9/10) / 2
        assert prediction.logits[1].exp().tolist() == pytest.approx(
            [0.3, 0.7], abs=1e-6
        )


@torch.no_grad()
def test_predictions_do_not_depend_on_turns_of_the_chip():
    model = classifier(1)
    mirror = with_tta(model, CONTRACT, EvaluateSection(tta="mirror"))[0]
    turns = with_tta(model, CONTRACT, EvaluateSection(tta="turns"))[0]
    assert torch.allclose(mirror(IMAGES), mirror(IMAGES.flip(3)), atol=1e-5)
    assert not torch.allclose(mirror(IMAGES), mirror(IMAGES.flip(2)), atol=1e-2)
    for changed in (IMAGES.flip(2), IMAGES.rot90(1, (2, 3)), IMAGES.transpose(2, 3)):
        assert torch.allclose(turns(IMAGES), turns(changed), atol=1e-5)


def test_views_by_recipe():
    model = classifier(1)
    assert with_tta(model, CONTRACT, EvaluateSection()) == (model, CONTRACT)
    views, larger = with_tta(model, CONTRACT, EvaluateSection(tta="ten-crop"))
    assert (views.size, views.take_views, larger.size) == (16, VIEWS["ten-crop"], 40)


@pytest.mark.parametrize("tta", VIEWS)
def test_uniform_image_has_equal_views(tta):
    section = EvaluateSection(tta=tta, margin=4)
    views, contract = with_tta(classifier(1), CONTRACT, section)
    model = classifier(1)
    uniform = torch.ones(1, 3, contract.size, contract.size)
    with torch.no_grad():
        assert torch.allclose(
            views(uniform).softmax(1),
            model(uniform[:, :, :16, :16]).softmax(1),
            atol=1e-5,
        )
