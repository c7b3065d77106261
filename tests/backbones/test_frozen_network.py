"""Any frozen module is an encoder: registered in a program, or by a package."""

import pytest
import torch
from torch import nn

import rsft as package
from rsft.backbones import registered
from rsft.backbones.frozen_network import frozen_card
from rsft.backbones.loading import load_backbone
from rsft.errors import RequestError
from rsft.recipe.load import load_recipe
from tests.helpers.bars_recipe import BARS_RECIPE


class Statistics(nn.Module):
    """Returns vectors, tokens or maps of 64 numbers of images of 32 pixels."""

    def __init__(self, kind="vectors"):
        super().__init__()
        self.kind = kind
        self.layer = nn.Conv2d(3, 64, 8, 8)

    def forward(self, x):
        assert x.shape[-1] == 32, "the side must be 32"
        x = self.layer(x)
        if self.kind == "nothing":
            return None
        if self.kind == "vectors":
            return x.mean((2, 3))
        return x.flatten(2).mT if self.kind == "tokens" else x


@pytest.fixture(autouse=True)
def cards(monkeypatch):
    monkeypatch.setattr(registered, "CARDS", cards := dict(registered.CARDS))
    monkeypatch.setattr("rsft.backbones.frozen_network.CARDS", cards)


@pytest.mark.parametrize("kind", ["vectors", "tokens", "maps"])
def test_the_output_becomes_one_vector(kind):
    module = Statistics(kind)
    package.register_encoder("mine", module, size=32)
    backbone = load_backbone("mine", 32)
    images = torch.randn(2, 3, 32, 32)
    assert backbone.width == 64 and not backbone.is_random
    expected = module.layer(images).mean((2, 3))
    torch.testing.assert_close(backbone.vit(images), expected)
    assert backbone.sha256 == load_backbone("mine", 32).sha256


def test_what_cannot_be_used_is_refused():
    package.register_encoder("mine", Statistics("nothing"), size=32)
    with pytest.raises(RequestError, match="returns no vectors"):
        load_backbone("mine", 32)
    with pytest.raises(RequestError, match="the side must be 32"):
        load_backbone("mine", 16)
    with pytest.raises(ValueError, match="is called aconvnet"):
        package.register_encoder("aconvnet", Statistics(), size=32)


def test_a_head_on_a_frozen_module(root, tmp_path):
    module = Statistics()
    package.register_encoder("mine", module, size=32, license="MIT")
    text = BARS_RECIPE.replace("ROOT", str(root)).replace("blocks: 3", "name: mine")
    path = tmp_path / "mine.yaml"
    path.write_text(text.replace("meta:", "#"))
    with pytest.raises(RequestError, match="mine"):
        package.finetune(load_recipe(path, ["backbone.pool=avg"]), tmp_path / "runs")
    probe = ["peft={method: linear-probe}", "backbone.pool=avg"]
    run = package.finetune(load_recipe(path, probe), tmp_path / "runs")
    rows = package.load_bundle(run.folder).predict(root)
    assert rows["class"].notna().all()


def test_a_package_names_its_card():
    card = frozen_card("theirs", Statistics, size=32, unit="db", bands=("VV", "VH"))
    assert card.is_frozen and card.mean == (0.0, 0.0) and card.weights is None
