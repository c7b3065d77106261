"""Images with any number of bands are resized and cropped."""

import numpy as np
import pytest

from rsft.data.imagery.resize import center_crop, resize_image


def test_center_crop():
    pixels = np.arange(25).reshape(5, 5, 1)
    assert center_crop(pixels, 3)[..., 0].tolist() == [
        [6, 7, 8],
        [11, 12, 13],
        [16, 17, 18],
    ]
    assert center_crop(pixels, 9).shape == center_crop(pixels, None).shape == (5, 5, 1)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("bands", [1, 2, 4, 5, 13])
@pytest.mark.parametrize("by_area", [True, False])
def test_bands_are_resized_independently(dtype, bands, by_area):
    image = np.random.default_rng(0).integers(0, 255, (9, 12, bands)).astype(dtype)
    resized = resize_image(image, (6, 8) if by_area else (11, 13), by_area=by_area)
    assert resized.dtype == dtype and resized.shape == (
        (6, 8, bands) if by_area else (11, 13, bands)
    )
    for band in range(bands):
        single = resize_image(
            image[:, :, band : band + 1], resized.shape[:2], by_area=by_area
        )
        np.testing.assert_allclose(
            resized[:, :, band], single[:, :, 0], rtol=1e-5, atol=dtype != "float32"
        )
