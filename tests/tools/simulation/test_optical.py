"""Simulated optical images."""

import numpy as np
import pytest

from rsft.plugins.demo.ships import sample_ship
from tools.simulation.optical import SURFACES, render_optical_chip, render_optical_scene
from tools.simulation.ships import SHIP_KINDS


def ship(kind="cargo", seed=0):
    return sample_ship(kind, np.random.default_rng(seed))


@pytest.mark.parametrize("kind", SHIP_KINDS)
def test_every_ship_class_is_visible(kind):
    image, relief, surfaces = render_optical_scene(ship(kind), np.random.default_rng(1))
    assert image.shape == (64, 64, 3) and image.dtype == np.uint8 and image.std() > 1
    assert relief.shape == (64, 64) and relief.max() > 0
    assert {"hull", "house"} <= {SURFACES[code] for code in np.unique(surfaces)}


@pytest.mark.parametrize("seed", range(8))
def test_image_without_a_ship_has_no_relief(seed):
    image, relief, surfaces = render_optical_scene(
        None, np.random.default_rng(seed), size=48
    )
    assert (
        image.shape == (48, 48, 3)
        and not relief.any()
        and surfaces.max() < SURFACES.index("hull")
    )


@pytest.mark.parametrize("seed", range(8))
def test_spacing_and_heading_are_as_requested(seed):
    simulated_ship = ship("tanker", seed)
    heading = 0.9
    pixels = 40
    spacing = simulated_ship.length / pixels
    _, relief, _ = render_optical_scene(
        simulated_ship, np.random.default_rng(seed), 64, spacing, heading
    )
    y, x = np.nonzero(relief > 0.02)
    values, vectors = np.linalg.eigh(np.cov(x, y))
    axis = vectors[:, 1]
    assert np.ptp(axis @ (x, y)) == pytest.approx(pixels, rel=0.2)
    assert abs(axis @ (np.sin(heading), -np.cos(heading))) > 0.98
    assert values[1] > 8 * values[0]


def test_sensor_noise_is_weaker_than_speckle():
    """The noise of an optical sensor is far below that of single-look SAR, whose
    standard deviation equals its mean."""
    chips = [
        render_optical_chip(None, np.random.default_rng(seed)).astype(float)
        for seed in range(60)
    ]
    noise = [np.abs(np.diff(chip, axis=1)).mean() / chip.mean() for chip in chips]
    assert np.median(noise) < 0.15


@pytest.mark.parametrize(
    ("kind", "color", "height"),
    [
        ("cargo", (100.0, 142.5, 164.4), 0.0722),
        ("fishing", (112.6, 139.2, 139.5), 0.0732),
        ("tug", (116.7, 109.8, 101.3), 0.0253),
        ("patrol", (79.3, 98.6, 113.2), 0.0305),
        (None, (152.7, 145.4, 144.2), 0.0),
    ],
)
def test_images_of_a_seed_are_stable_across_versions(kind, color, height):
    rng = np.random.default_rng(7)
    simulated_ship = sample_ship(kind, rng) if kind else None
    image, relief, _ = render_optical_scene(simulated_ship, rng, 32)
    assert image.mean(axis=(0, 1)).tolist() == pytest.approx(color, abs=0.2)
    assert relief.mean() == pytest.approx(height, abs=0.0005)
