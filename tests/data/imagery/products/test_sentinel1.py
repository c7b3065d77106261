"""Calibration of Sentinel-1 products, against ESA's formula computed pixel by pixel."""

import re
import zipfile

import numpy as np
import pytest

from rsft.data.imagery.products.sentinel1 import Sentinel1
from rsft.errors import DataError
from tests.helpers.sentinel1 import calibrate_pixel, write_product

SHAPE = 90, 70
UNITS = ("sigma0", "gamma0", "beta0")


def digital_numbers(seed=0):
    """Return digital numbers with 0 at the left border and values below the noise."""
    pixels = np.random.default_rng(seed).gamma(2, 60, SHAPE).astype(np.uint16)
    pixels[:, :3] = 0
    return pixels


def read(safe, keep_noise=False):
    return Sentinel1.find(safe).read((), keep_noise)


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("noise", ["new", "old", None])
def test_every_pixel(tmp_path, unit, noise):
    pixels = {"vh": digital_numbers(1), "vv": digital_numbers(2)}
    safe = write_product(tmp_path, pixels, noise=noise)
    product = read(safe)
    assert product.noise.startswith(
        "thermal noise removed" if noise else "thermal noise not removed"
    )
    for calibration, (name, band) in zip(
        product.calibrations[unit], pixels.items(), strict=True
    ):
        values, clipped = calibration(band.astype(np.float32), 0, 0)
        assert values.dtype == np.float32 and np.isnan(values[:, :3]).all()
        for row, col in np.ndindex(13, 67):
            pixel = float(band[7 * row, col + 3]), 7 * row, col + 3
            expected = calibrate_pixel(safe, name, *pixel, unit, noise is not None)
            assert abs(values[7 * row, col + 3] / expected - 1) < 1e-5
        assert (clipped > 100) == (noise is not None)


def test_a_noise_table_of_zeros_removes_nothing_and_is_told(tmp_path):
    product = read(write_product(tmp_path, {"vv": digital_numbers()}, noise="zero"))
    assert (
        product.noise.startswith("thermal noise not removed")
        and product.calibrations["sigma0"][0].noise is None
    )


def test_clipped_values_are_counted_and_are_that_of_dn_1(tmp_path):
    band = np.full(SHAPE, 1000, np.uint16)
    band[10:12, 10:20] = 5
    safe = write_product(tmp_path, {"vv": band})
    (calibration,) = read(safe).calibrations["sigma0"]
    values, clipped = calibration(band.astype(np.float32), 0, 0)
    assert clipped == 20
    scale = calibration.table.window(10, 12, 10, 20)
    assert values[10:12, 10:20] == pytest.approx(1 / scale**2, rel=1e-6)


def test_a_window_is_part_of_the_whole(tmp_path):
    band = digital_numbers()
    (calibration,) = read(write_product(tmp_path, {"vv": band})).calibrations["gamma0"]
    whole, clipped = calibration(band.astype(np.float32), 0, 0)
    parts = [
        calibration(band[top:bottom].astype(np.float32), top, 0)
        for top, bottom in ((0, 41), (41, 90))
    ]
    np.testing.assert_allclose(
        np.concatenate([part.values for part in parts]), whole, rtol=1e-6
    )
    assert sum(part.clipped for part in parts) == clipped
    window = calibration(band[70:90, 30:60].astype(np.float32), 70, 30).values
    np.testing.assert_allclose(window, whole[70:90, 30:60], rtol=1e-6)


def test_noise_is_kept(tmp_path):
    band = digital_numbers()
    safe = write_product(tmp_path, {"vv": band})
    product = read(safe, keep_noise=True)
    values, clipped = product.calibrations["sigma0"][0](band.astype(np.float32), 0, 0)
    assert product.noise == "thermal noise kept" and clipped == 0
    expected = calibrate_pixel(safe, "vv", float(band[50, 20]), 50, 20, "sigma0", False)
    assert values[50, 20] == pytest.approx(expected, rel=1e-6)


def test_what_the_annotation_says(tmp_path):
    product = read(write_product(tmp_path, {"vv": digital_numbers()}))
    assert (product.kind, product.unit) == ("Sentinel-1 GRD", "amplitude")
    assert (product.acquired, product.pass_direction) == (
        "2021-01-19T03:16:53.799379Z",
        "descending",
    )
    angles = product.incidence(np.array([0.0, 89.0]), np.array([0.0, 69.0]))
    assert angles == pytest.approx([30, 46.1], abs=0.01)


def test_the_motion_of_the_radar(tmp_path):
    safe = write_product(tmp_path, {"vv": np.full((9, 13), 100, np.uint16)})
    product = read(safe)
    rows = np.array([0.0, 4.0, 8.0])
    cols = np.array([0.0, 6.0, 12.0])
    assert product.motion.seconds(rows, cols) == pytest.approx(
        [0, 0.006, 0.012], abs=1e-6
    )
    assert product.motion.slant_range(rows, cols) == pytest.approx(
        [800e3, 875e3, 950e3], abs=1
    )
    assert (product.motion.velocity, product.motion.looks_right) == (7600.0, True)
    assert product.finished == "2021-01-19T03:16:53.811379Z"


@pytest.mark.parametrize(
    "tag", ["azimuthTime", "slantRangeTime", "velocity", "startTime"]
)
def test_without_a_part_the_motion_is_unknown(tmp_path, tag):
    safe = write_product(tmp_path, {"vv": np.full((9, 13), 100, np.uint16)})
    (path,) = safe.glob("annotation/*.xml")
    path.write_text(re.sub(rf"(</?){tag}>", r"\1other>", path.read_text()))
    product = read(safe)
    assert product.motion is None and product.incidence is not None


def test_no_calibration_files(tmp_path):
    product = read(
        write_product(
            tmp_path, {"vv": digital_numbers()}, calibration=False, noise=None
        )
    )
    assert product.unit == "amplitude" and not product.calibrations


@pytest.mark.parametrize(
    ("kind", "pattern", "replacement", "message"),
    [
        ("calibration", r"<line>\d+", "<line>x", "could not convert"),
        ("calibration", r"<sigmaNought.*?</sigmaNought>", "", "has no sigmaNought"),
        ("calibration", r"(<gamma count=.*?>)\S+", r"\g<1>-3", "not positive"),
        ("calibration", r"(<pixel count=.*?>)0 ", r"\g<1>", "without values"),
        ("noise", r"noiseRangeVector>", "other>", "no lines"),
        (
            "noise",
            r"<lastRangeSample>\d+</lastRangeSample>",
            "",
            "has no lastRangeSample",
        ),
        (
            "calibration",
            r"^<cal",
            "<!DOCTYPE a [<!ENTITY b 'c'>]><cal",
            "declares a document type",
        ),
        ("calibration", r"</calibration>$", "", "cannot be used"),
    ],
)
def test_damaged_xml(tmp_path, kind, pattern, replacement, message):
    safe = write_product(tmp_path, {"vv": digital_numbers()})
    (path,) = (safe / "annotation/calibration").glob(f"{kind}-*.xml")
    text = path.read_text()
    changed = re.sub(pattern, replacement, text, flags=re.DOTALL)
    assert changed != text
    path.write_text(changed)
    with pytest.raises(DataError, match=message) as caught:
        read(safe)
    assert path.name in caught.value.location


@pytest.mark.slow
@pytest.mark.realdata
def test_real_tables(shared, tmp_path):
    """Calibrate digital numbers with the look-up tables of a real product, at lines and
    pixels all over the image."""
    (archive,) = shared("s1_safe_annotation").glob("*.zip")
    with zipfile.ZipFile(archive) as file:
        file.extractall(tmp_path)
    (safe,) = tmp_path.glob("*.SAFE")
    (safe / "measurement").mkdir(exist_ok=True)
    for annotation in (safe / "annotation").glob("s1a-*.xml"):
        (safe / f"measurement/{annotation.stem}.tiff").touch()
    product = read(safe)
    assert (
        product.acquired == "2021-01-19T03:16:53.799379Z"
        and product.pass_direction == "descending"
    )
    rows = np.array([0.0, 16853.0])
    cols = np.array([0.0, 25930.0])  # corners; from the annotation, by hand
    assert product.motion.seconds(rows, cols) == pytest.approx(
        [-0.000264, 24.998], abs=1e-3
    )
    assert product.motion.slant_range(rows, cols) == pytest.approx(
        [801_126.7, 961_987.3], abs=1
    )
    assert product.motion.velocity == pytest.approx(7591.6, abs=0.1)
    assert product.finished == "2021-01-19T03:17:18.797132Z"
    assert product.incidence(np.zeros(1), np.zeros(1)) == pytest.approx(
        [30.305], abs=0.001
    )
    rng = np.random.default_rng(0)
    by_band = zip(*(product.calibrations[unit] for unit in UNITS), strict=True)
    for name, calibrations in zip(("vh", "vv"), by_band, strict=True):
        inside = zip(
            rng.integers(0, 16850, 12), rng.integers(0, 25900, 12), strict=True
        )
        for row, col in [(0, 0), (16853, 25930), *inside]:
            dn = rng.gamma(2, 80, (3, 4)).astype(np.float32)[
                : 16854 - row, : 25931 - col
            ]
            for unit, calibration in zip(UNITS, calibrations, strict=True):
                values, _ = calibration(dn, int(row), int(col))
                for (down, along), value in np.ndenumerate(values):
                    pixel = float(dn[down, along]), int(row) + down, int(col) + along
                    assert value == pytest.approx(
                        calibrate_pixel(safe, name, *pixel, unit, True), rel=1e-5
                    )
