import numpy as np
import pytest

from rsft.data.imagery.augmentation import Augmentation, Speckle

IMAGE = np.random.default_rng(0).integers(0, 256, (24, 24, 3), np.uint8)


@pytest.mark.parametrize("name", ["sar", "optical"])
def test_the_seed_alone_decides(name):
    augment = Augmentation(name)
    first = augment(IMAGE, 7)
    augment(IMAGE, 8)
    assert np.array_equal(first, augment(IMAGE, 7))
    assert np.array_equal(first, Augmentation(name)(IMAGE, 7))
    assert not np.array_equal(first, augment(IMAGE, 8))
    assert first.shape == IMAGE.shape and first.dtype == np.uint8


@pytest.mark.parametrize("name", ["sar", "optical"])
@pytest.mark.parametrize("planes", [1, 2, 5, 13])
def test_any_number_of_planes(name, planes):
    image = np.repeat(IMAGE[..., :1], planes, axis=2)
    augmented = Augmentation(name, planes)(image, 5)
    assert augmented.shape == image.shape
    assert not np.array_equal(augmented, image)
    assert np.array_equal(augmented[..., 0], augmented[..., -1])


@pytest.mark.parametrize("name", ["sar", "optical"])
def test_a_single_plane_is_augmented_as_three(name):
    for seed in range(20):
        three = Augmentation(name)(np.repeat(IMAGE[..., :1], 3, axis=2), seed)
        one = Augmentation(name, 1)(IMAGE[..., :1], seed)
        assert np.abs(three[..., :1].astype(int) - one).max() <= 1


def test_none_changes_nothing():
    assert np.array_equal(Augmentation("none")(IMAGE, 1), IMAGE)


def test_sar_keeps_the_bands_alike():
    grey = np.repeat(IMAGE[..., :1], 3, axis=2)
    image = Augmentation("sar")(grey, 3)
    assert np.array_equal(image[..., 0], image[..., 2])


@pytest.mark.parametrize("looks", [2, 8])
def test_speckle_has_unit_mean_intensity_and_variance_of_one_in_looks(looks):
    flat = np.full((400, 400, 3), 60, np.uint8)
    speckle = Speckle((looks, looks), p=1)
    speckle.set_random_seed(0)
    intensity = (speckle(image=flat)["image"][..., 0] / 60.0) ** 2
    assert intensity.mean() == pytest.approx(1, abs=0.02)
    assert intensity.var() == pytest.approx(1 / looks, rel=0.05)
