import pytest

from rsft.backbones import load_backbone, names
from rsft.errors import RequestError


def test_every_name_loads_frozen_and_in_evaluation_mode():
    for name in names():
        backbone = load_backbone(name, 64)
        assert backbone.width == 192 and len(backbone.sha256) == 64
        assert not backbone.vit.training
        assert not any(parameter.requires_grad for parameter in backbone.vit.parameters())


def test_unknown_name():
    with pytest.raises(RequestError, match=r"did you mean vit_tiny_patch8_64\.simship"):
        load_backbone("vit_tiny_patch8_64.simshp", 64)
