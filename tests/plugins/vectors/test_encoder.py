"""The encoder of vectors returns the numbers that the bytes of a chip are."""

import numpy as np
import pytest
import torch

from rsft.backbones.loading import load_backbone
from rsft.errors import DataError, RequestError
from rsft.peft import LoRA, attach
from rsft.plugins.vectors.vector_image import image_side, vector_to_image


@pytest.mark.parametrize("length", [1, 64, 1024])
def test_no_digit_is_lost(length):
    vectors = np.random.default_rng(0).normal(size=(3, length)).astype("float32")
    images = np.stack([vector_to_image(vector) for vector in vectors])
    side = image_side(length)
    assert images.shape == (3, side, side, 1) and not side % 2
    backbone = load_backbone("vectors", side)
    inputs = torch.from_numpy(images[..., 0])[:, None] / 255
    inputs = (inputs - backbone.mean[0]) / backbone.std[0]
    found = backbone.vit(inputs).numpy()
    assert found.shape == (3, backbone.width)
    assert np.array_equal(found[:, :length], vectors)
    assert not found[:, length:].any()


def test_other_images_are_refused():
    vit = load_backbone("vectors", 18).vit
    image = torch.from_numpy(vector_to_image(np.ones(64, "float32"))[..., 0])
    for other in (image.flip(1), torch.zeros(18, 18), image.new_full((18, 18), 255)):
        with pytest.raises(DataError, match="no vectors"):
            vit(other[None, None].float())
    with pytest.raises(RequestError, match="multiples of 2"):
        load_backbone("vectors", 17)
    with pytest.raises(ValueError, match="no"):
        attach(vit, LoRA(rank=2, positions="qv"))
