"""Images with any number of bands can be resized."""

from __future__ import annotations

import numpy as np
import pytest

from rsft.data.imagery.contract import resize_image


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("bands", [1, 2, 4, 5, 13])
@pytest.mark.parametrize("by_area", [True, False])
def test_bands_are_resized_independently(dtype: str, bands: int, by_area: bool) -> None:
    image = np.random.default_rng(0).integers(0, 255, (9, 12, bands)).astype(dtype)
    resized = resize_image(image, (6, 8) if by_area else (11, 13), by_area=by_area)
    assert resized.dtype == dtype and resized.shape == ((6, 8, bands) if by_area else (11, 13, bands))
    for band in range(bands):
        single = resize_image(image[:, :, band : band + 1], resized.shape[:2], by_area=by_area)
        np.testing.assert_allclose(resized[:, :, band], single[:, :, 0], rtol=1e-5, atol=dtype != "float32")
