"""The size of a chip and its resampling."""

import numpy as np
import pytest

from rsft.errors import DataError
from rsft.scenes.chip_size import resampling_factors, resize_chip
from rsft.scenes.options import ChipOptions
from tests.helpers.scenes import toy_contract


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


def test_pixels_of_a_scene_that_make_one_chip_pixel():
    spec = toy_contract()
    options = ChipOptions(resample_to=10.0)
    assert resampling_factors(spec, (2.0, 4.0), options) == (5.0, 2.5)
    assert resampling_factors(spec, (2.0, 4.0), ChipOptions()) == (1.0, 1.0)
    with pytest.raises(DataError, match="unknown spacing"):
        resampling_factors(spec, None, options)
