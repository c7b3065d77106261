"""The size of a chip and its resampling."""

import numpy as np
import pytest

from rsft.errors import DataError
from rsft.scenes.chip_size import resize_chip


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("bands", [1, 2, 5])
def test_resize_keeps_type_and_bands(kind, bands):
    resized = resize_chip(np.full((9, 6, bands), 7, kind), (3, 12))
    assert (
        resized.dtype == kind
        and resized.shape == (3, 12, bands)
        and (resized == 7).all()
    )


def test_complex_pixels_are_not_resized():
    with pytest.raises(DataError, match="complex64"):
        resize_chip(np.ones((4, 4, 1), np.complex64), (2, 2))
