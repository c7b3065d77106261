import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from rsft.data.imagery.contract import Contract
from rsft.models.averaging import Ensemble, TestTimeAugmentation, take_crops, with_tta
from rsft.models.classifier import Classifier, CosineHead
from rsft.peft import LoRA, attach
from rsft.recipe.schema import EvaluateSection

IMAGES = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
CONTRACT = Contract(
    units={}, bands=("gray",), planes=("gray",) * 3, crop=None, size=16, mean=(0.5,) * 3, std=(0.25,) * 3
)


def classifier(seed):
    torch.manual_seed(0)
    vit = VisionTransformer(img_size=16, patch_size=8, embed_dim=24, depth=2, num_heads=2, num_classes=0).eval()
    adapted = attach(vit, LoRA(rank=2), learn_scales=True)
    torch.manual_seed(seed)
    for parameter in [*adapted.theta, *adapted.gamma]:
        nn.init.normal_(parameter, std=0.3)
    return Classifier(adapted, CosineHead(24, 3, scale=10.0), "token").eval()


def states(*classifiers):
    return [{key: value.clone() for key, value in classifier.learned_state().items()} for classifier in classifiers]


@torch.no_grad()
def test_ensemble_is_the_mean_of_probabilities():
    members = [classifier(seed) for seed in (1, 2, 3)]
    ensemble = Ensemble(classifier(4), states(*members))
    expected = torch.stack([classifier(IMAGES).softmax(1) for classifier in members]).mean(0)
    for _ in range(2):  # independent of earlier exchanges
        assert torch.allclose(ensemble(IMAGES).softmax(1), expected, atol=1e-6)
    features = torch.stack([classifier.features(IMAGES) for classifier in members]).mean(0)
    assert torch.allclose(ensemble.predict(IMAGES).features, features, atol=1e-5)


@torch.no_grad()
def test_members_pruned_at_different_sites():
    weak, strong = classifier(1), classifier(2)
    weak.adapted.prune(float(sorted(weak.adapted.modulator.scales().values())[4]))
    assert len(weak.adapted.pruned_sites) == 4
    ensemble = Ensemble(classifier(4), states(weak, strong))
    expected = (weak(IMAGES).softmax(1) + strong(IMAGES).softmax(1)) / 2
    for _ in range(2):
        assert torch.allclose(ensemble(IMAGES).softmax(1), expected, atol=1e-6)


def test_five_and_ten_crops():
    image = torch.arange(30.0).reshape(1, 1, 5, 6)
    five = take_crops(image, 3, mirrored=False)
    assert [int(crop[0, 0, 0, 0]) for crop in five] == [0, 3, 12, 15, 7]
    assert all(crop.shape == (1, 1, 3, 3) for crop in five)
    ten = take_crops(image, 3, mirrored=True)
    assert len(ten) == 10 and torch.equal(ten[9], five[4].flip(3))


@torch.no_grad()
def test_views_are_the_mean_of_probabilities():
    model, larger = classifier(1), torch.randn(2, 3, 20, 20, generator=torch.Generator().manual_seed(0))
    expected = torch.stack([model(crop).softmax(1) for crop in take_crops(larger, 16, mirrored=True)]).mean(0)
    assert torch.allclose(TestTimeAugmentation(model, 16, mirrored=True)(larger).softmax(1), expected, atol=1e-6)


def test_views_by_recipe():
    model = classifier(1)
    assert with_tta(model, CONTRACT, EvaluateSection()) == (model, CONTRACT)
    views, larger = with_tta(model, CONTRACT, EvaluateSection(tta="ten-crop"))
    assert (views.size, views.mirrored, larger.size) == (16, True, 40)


@pytest.mark.parametrize("tta", ["five-crop", "ten-crop"])
def test_uniform_image_has_equal_views(tta):
    model, uniform = classifier(1), torch.ones(1, 3, 20, 20)
    views, _ = with_tta(model, CONTRACT, EvaluateSection(tta=tta, margin=4))
    with torch.no_grad():
        assert torch.allclose(views(uniform).softmax(1), model(uniform[:, :, :16, :16]).softmax(1), atol=1e-5)
