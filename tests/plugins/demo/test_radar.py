"""Physics of the SAR simulator: speckle, K-distributed clutter, layover, shadow,
sidelobes."""

from dataclasses import replace

import numpy as np
import pytest

from rsft.plugins.demo import radar
from rsft.plugins.demo.radar import (
    Pose,
    SarSensor,
    Shore,
    amplitude_to_uint8,
    amplitude_to_uint16,
    render_sar_chip,
)
from rsft.plugins.demo.ships import DeckObject, Ship, sample_ship
from tools.simulation.ships import SHIP_KINDS

SENSOR = SarSensor(
    spacing=(2.0, 2.0),
    incidence=35.0,
    looks=1,
    oversampling=1.2,
    taper=1.0,
    defocus=0.0,
)
PIXELS = 2.0 * (np.arange(128) - 63.5)  # coordinates in meters from the image center
TOWER = Ship("cargo", 60, 20, 4, 0.2, 0.1, (DeckObject(0, 0, 10, 10, 40, "house"),))


def power(*poses, sensor=SENSOR, seed=0, shore=None):
    return (
        radar.render_sar_scene(
            list(poses), shore, sensor, np.random.default_rng(seed), 128
        ).astype(float)
        ** 2
    )


@pytest.mark.parametrize("looks", [1, 4])
def test_speckle_contrast_decreases_with_the_looks(looks):
    images = [
        power(sensor=replace(SENSOR, looks=looks), seed=seed) for seed in range(12)
    ]
    contrasts = [image.var() / image.mean() ** 2 for image in images]
    # gamma speckle alone has 1 / L; texture adds to it
    assert min(contrasts) > 0.9 / looks
    assert np.median(contrasts) < 1.6 / looks


def test_sea_texture_has_mean_one_and_varies():
    fields = [
        radar.sea_clutter_power(np.random.default_rng(seed), 128, (2.0, 2.0))
        for seed in range(12)
    ]
    assert np.mean(fields) == pytest.approx(1, abs=0.05)
    assert min(field.min() for field in fields) >= 0 and all(
        field.std() > 0.03 for field in fields
    )


def test_tower_has_layover_toward_the_sensor_and_a_shadow_behind():
    # the keel along azimuth, the hull 20 m wide in range
    pose = Pose(TOWER, 0, 0, np.pi / 2)
    # without sidelobes, which would fill the shadow
    sensor = replace(SENSOR, looks=4, taper=0.54)
    image = np.median(
        [power(pose, sensor=sensor, seed=seed) for seed in range(8)], axis=0
    )
    x = y = PIXELS
    rows = abs(y) < 4
    sea = np.median(image[abs(y) > 60])
    layover = image[np.ix_(rows, (x > -60) & (x < -40))].mean()
    shadow = image[np.ix_(rows, (x > 14) & (x < 30))].mean()
    assert layover > 10 * sea and shadow < 0.5 * sea


def test_steeper_incidence_increases_layover():
    pose = Pose(TOWER, 0, 0, np.pi / 2)
    images = [
        power(pose, sensor=replace(SENSOR, incidence=incidence, looks=4))
        for incidence in (45.0, 25.0)
    ]
    centroids = [(image.sum(axis=0) * PIXELS).sum() / image.sum() for image in images]
    assert centroids[1] < centroids[0] - 5


def test_sidelobes_of_a_strong_point():
    levels = []
    for taper in (1.0, 0.54):
        spectrum = np.fft.fftshift(replace(SENSOR, taper=taper).spectral_window(512)[0])
        point = np.abs(np.fft.ifft(spectrum, 8192)) ** 2  # 16 samples per pixel
        lobes = [
            point[k] for k in range(1, 800) if point[k - 1] < point[k] > point[k + 1]
        ]
        levels.append(10 * np.log10(max(lobes) / point[0]))
    assert levels == pytest.approx([-13.3, -42.7], abs=1)


def test_motion_defocuses_but_keeps_the_power():
    pose = Pose(TOWER, 0, 0, 0.3)
    sharp = power(pose, sensor=replace(SENSOR, defocus=0.0))
    smeared = power(pose, sensor=replace(SENSOR, defocus=60.0))
    assert smeared.max() < 0.6 * sharp.max()
    assert smeared.sum() == pytest.approx(sharp.sum(), rel=0.2)


@pytest.mark.parametrize("kind", SHIP_KINDS)
def test_every_ship_class_is_brighter_than_the_sea(kind):
    rng = np.random.default_rng(1)
    amplitude = render_sar_chip(
        sample_ship(kind, rng), replace(SENSOR, spacing=(3.0, 3.0)), rng, 128
    )
    assert (
        amplitude.dtype == np.float32
        and amplitude.shape == (128, 128)
        and np.isfinite(amplitude).all()
    )
    assert amplitude[48:80, 48:80].max() > 4 * np.median(amplitude)


def test_land_is_brighter_than_water():
    image = power(shore=Shore(0.0, 20.0))
    assert np.mean(image[:, 80:]) > 1.5 * np.mean(image[:, :60])


def test_image_of_a_seed_is_stable_across_versions():
    rng = np.random.default_rng(7)
    amplitude = render_sar_chip(
        sample_ship("tanker", rng), radar.sample_sensor(rng, (3.0, 2.0)), rng, 64
    )
    assert amplitude.mean() == pytest.approx(
        1.5372, abs=0.002
    ) and amplitude.max() == pytest.approx(17.34, abs=0.05)


def test_digital_numbers_use_their_range():
    amplitude = render_sar_chip(TOWER, SENSOR, np.random.default_rng(0), 128)
    assert (
        amplitude_to_uint8(amplitude).max() == 255
        and amplitude_to_uint8(amplitude).dtype == np.uint8
    )
    numbers = amplitude_to_uint16(amplitude, 100)
    np.testing.assert_allclose(
        numbers[amplitude < 600] / 100, amplitude[amplitude < 600], atol=0.006
    )
    assert amplitude_to_uint16(amplitude, 1e6).max() == 65535
