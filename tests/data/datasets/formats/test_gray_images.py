"""Gray images, repeated bands and bands of opacity."""

import numpy as np
import pytest
from PIL import Image

from rsft.data.datasets.formats.gray_images import (
    have_same_pixels,
    read_gray_band,
    take_gray_band,
)

PIXELS = np.random.default_rng(0).integers(0, 255, (4, 5), np.uint8)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P"])
def test_copies_of_a_gray_image_are_equal(tmp_path, mode):
    Image.fromarray(PIXELS).save(tmp_path / "gray.png")
    Image.fromarray(PIXELS).convert(mode).save(tmp_path / "copy.png")
    np.testing.assert_array_equal(read_gray_band(tmp_path / "copy.png")[..., 0], PIXELS)
    assert have_same_pixels(tmp_path / "gray.png", tmp_path / "copy.png")


def test_other_images_are_refused(tmp_path):
    colors = np.stack([PIXELS, PIXELS, PIXELS + 1], axis=2)
    with pytest.raises(ValueError, match="the 3 bands differ"):
        take_gray_band(colors)
    (tmp_path / "bad.png").write_bytes(b"x")
    assert not have_same_pixels(tmp_path / "bad.png", tmp_path / "bad.png")


def test_an_image_that_asks_for_all_memory_is_refused(tmp_path, monkeypatch):
    Image.fromarray(PIXELS).save(tmp_path / "large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", PIXELS.size // 3)
    with pytest.raises(ValueError, match="exceeds limit"):
        read_gray_band(tmp_path / "large.png")
