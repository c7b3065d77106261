"""The class token computed alone."""

import pytest
import torch

from rsft.peft import (
    LoRA,
    attach,
    class_token_features,
)
from tests.helpers.peft_models import (
    NETWORKS,
    tiny_vit,
)

NETWORK = pytest.mark.parametrize("name", NETWORKS)


@NETWORK
def test_the_class_token_of_a_merged_network_can_be_computed_alone(name, images):
    vit = NETWORKS[name]()
    assert torch.allclose(
        class_token_features(vit, images), vit.forward_features(images)[:, 0], atol=1e-5
    )


def test_network_without_a_class_token(images):
    vit = tiny_vit(class_token=False, global_pool="avg")
    with pytest.raises(ValueError, match="no class token"):
        attach(vit, LoRA()).forward_features(images, class_token_only=True)


def test_only_the_class_token_leaves_the_last_block(images, monkeypatch):
    vit = tiny_vit()
    monkeypatch.setattr(vit, "forward_features", None)  # would compute all tokens
    assert class_token_features(vit, images).shape == (len(images), vit.embed_dim)
