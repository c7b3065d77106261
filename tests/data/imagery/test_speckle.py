"""Speckle of an L-look amplitude."""

import numpy as np
import pytest

from rsft.data.imagery.speckle import Speckle


def speckled(looks, value=100, side=200, p=1.0):
    transform = Speckle((looks, looks), p)
    transform.set_random_seed(7)
    return transform(image=np.full((side, side, 3), value, np.uint8))["image"]


@pytest.mark.parametrize("looks", [4, 16])
def test_power_has_the_variance_of_its_looks(looks):
    power = speckled(looks).astype(float)[..., 0] ** 2
    assert power.mean() == pytest.approx(100**2, rel=0.02)
    assert power.var() / power.mean() ** 2 == pytest.approx(1 / looks, rel=0.08)


def test_planes_are_one_measurement():
    image = speckled(1)
    assert (image == image[..., :1]).all() and len(np.unique(image)) > 50


def test_bright_pixels_are_clipped_and_dark_ones_stay():
    bright = speckled(16, 250)
    assert bright.max() == 255 and bright.min() > 50 and not speckled(1, 0).any()
    assert (speckled(1, p=0.0) == 100).all()
