import os
import subprocess
import sys

import numpy as np
import pytest

from rsft.data.imagery import augmentation
from rsft.data.imagery.augmentation import Augmentation
from rsft.data.imagery.speckle import Speckle

IMAGE = np.random.default_rng(0).integers(0, 256, (24, 24, 3), np.uint8)


@pytest.mark.parametrize("name", ["natural", "sar", "optical"])
def test_result_depends_on_the_seed_only(name):
    augment = Augmentation(name, size=24)
    first = augment(IMAGE, 7)
    augment(IMAGE, 8)
    assert np.array_equal(first, augment(IMAGE, 7))
    assert np.array_equal(first, Augmentation(name, size=24)(IMAGE, 7))
    assert not np.array_equal(first, augment(IMAGE, 8))
    assert first.shape == IMAGE.shape and first.dtype == np.uint8


@pytest.mark.parametrize("name", ["natural", "sar", "optical"])
@pytest.mark.parametrize("planes", [1, 2, 5, 13])
def test_any_number_of_planes(name, planes):
    image = np.repeat(IMAGE[..., :1], planes, axis=2)
    augmented = Augmentation(name, planes, size=24)(image, 5)
    assert augmented.shape == image.shape
    assert not np.array_equal(augmented, image)
    assert np.array_equal(augmented[..., 0], augmented[..., -1])


@pytest.mark.parametrize("name", ["sar", "optical"])
def test_one_plane_is_augmented_like_three(name):
    for seed in range(20):
        three = Augmentation(name)(np.repeat(IMAGE[..., :1], 3, axis=2), seed)
        one = Augmentation(name, 1)(IMAGE[..., :1], seed)
        assert np.abs(three[..., :1].astype(int) - one).max() <= 1


@pytest.mark.parametrize("strong", [False, True])
@pytest.mark.parametrize("name", ["natural", "sar", "optical"])
def test_equal_planes_are_augmented_as_one_to_the_same_bytes(name, strong, monkeypatch):
    augment = Augmentation(name, size=24, strong=strong)
    gray = np.repeat(IMAGE[..., :1], 3, axis=2)
    fast = [augment(gray, seed) for seed in range(20)]
    # the result must not depend on this shortcut
    monkeypatch.setattr(augmentation, "_has_equal_planes", lambda image: False)
    for seed, image in enumerate(fast):
        np.testing.assert_array_equal(image, augment(gray, seed))


def test_one_equal_row_does_not_make_planes_equal():
    image = IMAGE.copy()
    image[0] = image[0, :, :1]
    changed = image.copy()
    changed[1:, :, 2] ^= 1
    assert not np.array_equal(
        Augmentation("sar")(image, 1)[..., 2], Augmentation("sar")(changed, 1)[..., 2]
    )
    assert not augmentation._has_equal_planes(image) and augmentation._has_equal_planes(
        image[:1]
    )


@pytest.mark.parametrize(
    ("name", "seed", "means"),
    [
        (
            "natural",
            1,
            [
                114.3,
                130.2,
                122.4,
                54.8,
                130.2,
                92.6,
                114.3,
                179.6,
                147.2,
                54.8,
                179.6,
                117.4,
            ],
        ),
        (
            "natural",
            4,
            [
                104.3,
                62.7,
                83.6,
                44.8,
                62.7,
                53.8,
                104.3,
                137.3,
                121.0,
                44.8,
                137.3,
                91.2,
            ],
        ),
        (
            "sar",
            1,
            [
                206.6,
                65.8,
                138.4,
                79.9,
                82.2,
                81.1,
                216.0,
                182.3,
                201.6,
                98.2,
                201.4,
                151.2,
            ],
        ),
        (
            "sar",
            4,
            [
                130.1,
                40.6,
                85.2,
                27.7,
                55.1,
                41.0,
                144.6,
                132.5,
                138.6,
                38.8,
                145.5,
                91.8,
            ],
        ),
        (
            "optical",
            1,
            [
                59.2,
                208.3,
                129.2,
                49.8,
                65.2,
                56.2,
                190.7,
                213.2,
                202.2,
                181.3,
                70.1,
                129.2,
            ],
        ),
        (
            "optical",
            4,
            [
                137.0,
                137.4,
                137.2,
                128.6,
                44.6,
                100.6,
                61.3,
                133.1,
                85.2,
                52.8,
                40.3,
                48.7,
            ],
        ),
    ],
)
def test_libraries_still_augment_in_the_same_way(name, seed, means):
    """Means of each quarter and plane. OpenCV 4 and 5 interpolate pixels differently,
    which changes them by 0.1."""
    y, x = np.mgrid[:24, :24]
    ramps = np.stack([10 * x, 10 * y, 5 * (x + y)], axis=2).astype(np.uint8)
    quarters = Augmentation(name, size=24)(ramps, seed).reshape(2, 12, 2, 12, 3)
    assert quarters.mean((1, 3)).ravel() == pytest.approx(means, abs=0.5)


def crops_of_ramps(height, width, size, count=400):
    """Left, right, top and bottom edge of crops in the image, 0-1, and whether they are
    mirrored."""
    x = np.tile(np.linspace(0, 255, width), (height, 1))
    y = np.tile(np.linspace(0, 255, height)[:, None], (1, width))
    ramps = np.stack([x, y], axis=2).astype(np.uint8)
    augment = Augmentation("natural", 2, size)
    crops = np.stack([augment(ramps, seed) for seed in range(count)]) / 255
    assert crops.shape == (count, size, size, 2)
    first = crops[:, size // 2, 0, 0]
    last = crops[:, size // 2, -1, 0]
    left = np.minimum(first, last)
    right = np.maximum(first, last)
    return (
        left,
        right,
        crops[:, 0, size // 2, 1],
        crops[:, -1, size // 2, 1],
        first > last,
    )


def test_natural_crops_like_torchvision():
    """Area 8 to 100 % and sides 3:4 to 4:3, half of the crops mirrored, none turned
    upside down."""
    left, right, top, bottom, mirrored = crops_of_ramps(400, 400, 64)
    area = (right - left) * (bottom - top)
    ratio = (right - left) / (bottom - top)
    assert (
        area.min() > 0.06
        and area.max() > 0.9
        and area.mean() == pytest.approx(0.5, abs=0.04)
    )
    assert ratio.min() == pytest.approx(
        3 / 4, abs=0.05
    ) and ratio.max() == pytest.approx(4 / 3, abs=0.08)
    assert mirrored.mean() == pytest.approx(0.5, abs=0.08)
    assert (bottom > top).all()
    assert (
        left.min() < 0.02
        and right.max() > 0.98
        and top.min() < 0.02
        and bottom.max() > 0.98
    )


def test_natural_crops_of_a_long_image_are_not_distorted():
    left, right, top, bottom, _ = crops_of_ramps(200, 600, 32)
    ratio = 3 * (right - left) / (bottom - top)
    assert ratio.min() > 0.7 and ratio.max() < 1.45


def test_natural_averages_pixels_where_it_shrinks():
    noise = np.random.default_rng(0).integers(0, 256, (512, 512, 3), np.uint8)
    # 74 in one pixel
    assert (
        np.mean(
            [Augmentation("natural", size=16)(noise, seed).std() for seed in range(10)]
        )
        < 12
    )


def test_natural_needs_a_size():
    with pytest.raises(ValueError, match="size"):
        Augmentation("natural")


def test_none_returns_the_image():
    assert np.array_equal(Augmentation("none")(IMAGE, 1), IMAGE)


@pytest.mark.parametrize("looks", [2, 8])
def test_speckle_has_unit_mean_intensity_and_variance_of_one_in_looks(looks):
    flat = np.full((400, 400, 3), 60, np.uint8)
    speckle = Speckle((looks, looks), p=1)
    speckle.set_random_seed(0)
    intensity = (speckle(image=flat)["image"][..., 0] / 60.0) ** 2
    assert intensity.mean() == pytest.approx(1, abs=0.02)
    assert intensity.var() == pytest.approx(1 / looks, rel=0.05)


@pytest.mark.slow
def test_import_leaves_the_environment_alone():
    code = """
import os, sys
from rsft.data.imagery import augmentation
from rsft.data.imagery.augmentation import Augmentation
assert "NO_ALBUMENTATIONS_UPDATE" not in os.environ and "albumentations" not in sys.modules
Augmentation("sar")
assert os.environ["NO_ALBUMENTATIONS_UPDATE"] == "1"
"""
    environment = {
        name: value
        for name, value in os.environ.items()
        if name != "NO_ALBUMENTATIONS_UPDATE"
    }
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
