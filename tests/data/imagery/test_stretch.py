import numpy as np
import pytest

from rsft.data.imagery.reader import read_chip
from rsft.data.imagery.stretch import (
    AUTO_OF_0_2,
    CHIP_MAX,
    IDENTITY_STRETCH,
    Stretch,
    fit_stretches,
    stretches_from_option,
)
from rsft.errors import DataError, RequestError
from tests.helpers.messages import mentions


def fitted(option, unit, chips):
    """Return the stretch and the statistics of chips of one plane in a unit."""
    pixels = [np.float32(chip)[..., None] for chip in chips]
    stretches, statistics = fit_stretches(
        option, ("VV",), ("VV",), {unit: (unit, unit)}, lambda _: pixels
    )
    return stretches[unit][0], statistics.get(unit, (None,))[0]


def apply(stretch, *values):
    return stretch.to_bytes(np.float32([values])).tolist()[0]


@pytest.mark.parametrize(
    ("stretch", "values", "result"),
    [
        (Stretch(low=-25, high=0), (-30, -25, -12.5, 0, 9), [0, 0, 128, 255, 255]),
        (Stretch(low=0, high=1000), (0, 500, 65535), [0, 128, 255]),
        (
            Stretch(curve="log1p", low=0, high=np.e**2 - 1),
            (0, np.e - 1, 100),
            [0, 128, 255],
        ),
        (CHIP_MAX, (0, 2, 4), [0, 128, 255]),
        (CHIP_MAX, (0, 20, 40), [0, 128, 255]),  # the factor cancels
        # no value: black
        (
            Stretch(low=-25, high=0),
            (-np.inf, np.nan, np.inf, -12.5),
            [0, 0, 0, 128],
        ),
        (CHIP_MAX, (np.nan, np.inf, 4), [0, 0, 255]),
        (
            Stretch(low=0, high=1, top=np.e),
            (-1, 0, 0.2, 1, np.sqrt(np.e), np.e, 9),
            [0, 0, 48, 242, 249, 255, 255],
        ),
        (
            Stretch(low=-20, high=0, top=180),
            (np.nan, np.inf, -10, 180, 200),
            [0, 0, 121, 255, 255],
        ),
        (
            Stretch(curve="log", low=0.01, high=100),
            (np.nan, -1, 0, 0.01, 1, 10, 1e3),
            [0, 0, 0, 0, 128, 191, 255],
        ),
    ],
)
def test_to_bytes(stretch, values, result):
    assert apply(stretch, *values) == result


def test_one_pixel_in_ten_thousand_is_brighter_than_white():
    plane = np.full((100, 100), 2, np.float32)
    plane[0, :3] = 1000, 4, 1
    assert CHIP_MAX.to_bytes(plane)[0, :4].tolist() == [255, 255, 64, 128]


def test_identity_stretch_returns_the_bytes():
    plane = np.uint8([[0, 7, 255]])
    assert IDENTITY_STRETCH.to_bytes(plane) is plane


def test_black_chip_is_an_error():
    with pytest.raises(DataError, match=mentions("no value", "above 0")):
        apply(CHIP_MAX, 0, -1)


def test_measured_in_one_pass():
    rng = np.random.default_rng(0)
    chips = [rng.gamma(4, 0.01, (50, 50)).astype(np.float32) for _ in range(40)]
    values = np.stack(chips)
    _, statistics = fitted("auto", "sigma0", chips)
    assert statistics.low == pytest.approx(np.percentile(values, 0.5), rel=2e-3)
    assert statistics.high == pytest.approx(np.percentile(values, 99.5), rel=2e-3)
    assert statistics.mean == pytest.approx(values.mean(), rel=1e-3)
    assert statistics.std == pytest.approx(values.std(), rel=2e-3)
    assert statistics.masked == 0


def test_zeros_and_values_that_are_not_finite_mean_no_data():
    plane = np.float32([[0, np.nan, -np.inf, -20, -10, -30, -20, 0]])
    _, statistics = fitted("auto", "db", [plane])
    assert statistics.masked == 0.5
    assert statistics.mean == pytest.approx(-20, rel=1e-3)
    assert (statistics.low, statistics.high) == pytest.approx((-30, -10), rel=1e-3)


def test_planes_are_measured_separately():
    chips = [np.float32([[[3, -5]]])]
    names = ("VV", "VH")
    statistics = fit_stretches(
        "percentile", names, names, {"db": ("db", "db")}, lambda _: chips
    )[1]["db"]
    assert [plane.mean for plane in statistics] == pytest.approx([3, -5], rel=1e-3)


def test_planes_without_values():
    with pytest.raises(DataError, match="no pixel"):
        fitted("auto", "db", [np.zeros((4, 4))])


@pytest.mark.parametrize(
    ("low", "high", "limits"),
    [
        (0.1, 7, (0, 7)),
        (-30, 3, (-30, 3)),
        (-30, -10, (-30, -10)),
        (5, 5, (0, 5)),
        (-5, -5, (-5, -4)),
    ],
)
def test_black_is_zero_if_no_value_is_negative(low, high, limits):
    stretch, _ = fitted("auto", "db", [[[low, high]]])
    assert (stretch.low, stretch.high) == pytest.approx(
        limits, rel=1e-3
    ) and stretch.curve == "linear"


def chips_with_bright_points(points, darkest=0.0):
    """Return chips of speckle from `darkest` up, with one bright point each."""
    chips = [
        np.random.default_rng(seed).uniform(0, 1, (40, 40)).astype(np.float32) + darkest
        for seed in range(5)
    ]
    for chip, value in zip(chips, points, strict=True):
        chip[7, 8] = value
    return chips


POINTS = (2, 9, 30, 200, 1000)


@pytest.mark.parametrize("unit", ["amplitude", "uint16"])
def test_auto_tells_all_bright_points_apart(unit):
    chips = chips_with_bright_points(POINTS)
    stretch, statistics = fitted("auto", unit, chips)
    assert (stretch.low, stretch.top) == (0, 1000) and stretch.high == pytest.approx(
        1, abs=0.02
    )
    assert stretch.curve == "linear" and statistics.clipped == 0
    levels = [int(stretch.to_bytes(chip)[7, 8]) for chip in chips]
    assert levels == sorted(set(levels)) and levels[0] > 242 and levels[-1] == 255
    old, old_statistics = fitted("percentile", unit, chips)
    assert old == Stretch(high=stretch.high) and old_statistics.clipped == 1
    assert {int(old.to_bytes(chip)[7, 8]) for chip in chips} == {255}


def test_auto_does_not_compress_if_most_values_keep_most_bytes():
    chips = chips_with_bright_points((-18.95, -18.96, -19, -19, -19), darkest=-20)
    stretch, statistics = fitted("auto", "amplitude", chips)
    assert (
        stretch == Stretch(low=stretch.low, high=np.float32(-18.95))
        and statistics.clipped == 0
    )


@pytest.mark.parametrize(
    ("linear", "decibel"), [("sigma0", "db"), ("gamma0", "gamma0_db")]
)
def test_power_and_its_decibels_give_the_same_image(linear, decibel):
    chips = chips_with_bright_points(POINTS)
    stretch, statistics = fitted("auto", linear, chips)
    assert (stretch.curve, stretch.high, statistics.clipped) == ("log", 1000, 0)
    decibels = [10 * np.log10(chip) for chip in chips]
    other, statistics = fitted("auto", decibel, decibels)
    assert (other.curve, other.high, statistics.clipped) == (
        "linear",
        pytest.approx(30),
        0,
    )
    for chip, values in zip(chips, decibels, strict=True):
        assert (
            np.abs(stretch.to_bytes(chip).astype(int) - other.to_bytes(values)).max()
            <= 1
        )
    assert len({stretch.to_bytes(chip)[7, 8] for chip in chips}) == len(POINTS)


def test_power_with_negative_values_is_stretched_linearly():
    # a difference of bands
    chips = chips_with_bright_points((-18.5, -18.6, -19, -19, -19), darkest=-20)
    stretch, _ = fitted("auto", "sigma0", chips)
    assert stretch.curve == "linear" and stretch.low < -19


def test_for_a_physical_backbone_bright_reflectances_are_clipped_and_counted():
    pixels = [chip[..., None] for chip in chips_with_bright_points(POINTS)]
    units = {"uint16": ("uint16", "uint16")}
    stretches, statistics = fit_stretches(
        "auto", ("B04",), ("B04",), units, lambda _: pixels, True
    )
    ((stretch,),), ((plane,),) = stretches.values(), statistics.values()
    assert stretch == Stretch(high=plane.high) and plane.clipped == 1


def test_auto_of_earlier_versions():
    chips = chips_with_bright_points(POINTS)
    assert fitted(AUTO_OF_0_2, "sigma0", chips) == fitted("percentile", "sigma0", chips)
    assert fitted(AUTO_OF_0_2, "uint8", chips) == (IDENTITY_STRETCH, None)


@pytest.mark.parametrize(
    "fields", [{"high": 5.0, "top": 5.0}, {"high": 0.0, "top": 5.0}, {"top": np.inf}, {"high": None, "top": 5.0},
               {"curve": "log1p", "top": 300.0}, {"curve": "log"}, {"low": np.nan}, {"high": np.inf},
               {"restored": True, "top": 300.0}, {"restored": True, "high": None}],
)  # fmt: skip
def test_limits_that_do_not_rise_or_are_not_finite_are_refused(fields):
    with pytest.raises(ValueError, match="of a stretch"):
        Stretch(**fields)


def test_a_stretch_without_a_top_is_stored_as_before():
    assert Stretch(low=1.0).model_dump() == {
        "curve": "linear",
        "low": 1.0,
        "high": 255.0,
    }
    compressed = Stretch(high=1.0, top=9.0)
    assert Stretch.model_validate_json(compressed.model_dump_json()) == compressed


@pytest.mark.parametrize(
    "stretch",
    [
        Stretch(low=-20.0, high=5.0),
        Stretch(curve="log", low=2.0, high=900.0),
        Stretch(curve="log1p", high=65535.0),
    ],
)
def test_bytes_are_restored_to_their_values(stretch):
    restored = stretch.model_copy(update={"restored": True})
    values = restored.byte_values()
    assert values[0] == pytest.approx(stretch.low)
    assert values[255] == pytest.approx(stretch.high)
    assert (restored.to_bytes(values[None])[0] == np.arange(256)).all()
    assert (stretch.byte_values() * 255 == np.arange(256)).all()


def test_stretches_from_option():
    assert stretches_from_option("chip-max", 2) == (CHIP_MAX, CHIP_MAX)
    assert stretches_from_option("auto", 1) == (IDENTITY_STRETCH,)
    one = Stretch(low=-25, high=0)
    two = Stretch(low=0, high=9)
    assert stretches_from_option(((-25, 0),), 2) == (one, one)
    assert stretches_from_option(((-25, 0), (0, 9)), 2) == (one, two)
    with pytest.raises(RequestError, match=mentions("2 pairs", "3 planes")):
        stretches_from_option(((-25, 0), (0, 9)), 3)


@pytest.mark.parametrize(
    ("option", "unit", "high", "curve"),
    [("auto", "uint8", 255, "linear"), ("auto", "sigma0", 7, "log"), ("percentile", "uint8", 7, "linear"),
     ("log1p", "sigma0", 7, "log1p"), ("chip-max", "sigma0", None, "linear"), (((0, 1),), "db", 1, "linear")],
)  # fmt: skip
def test_only_some_options_are_measured(option, unit, high, curve):
    stretch, _ = fitted(option, unit, [[[3, 7]]])
    assert (
        stretch.low == (pytest.approx(3, rel=1e-3) if curve == "log" else 0)
        and stretch.curve == curve
    )
    assert stretch.high == (high if high is None else pytest.approx(high, rel=1e-3))


@pytest.mark.realdata
def test_ships_of_opensarship_keep_their_brightest_pixels(shared):
    chips = [
        read_chip(path)[..., -1]
        for path in sorted(shared("opensarship").glob("*/Patch_Cal/*.tif"))[::4]
    ]
    stretch, statistics = fitted("auto", "sigma0", chips)
    assert statistics.clipped == 0 and stretch.high == max(chip.max() for chip in chips)
    assert fitted("percentile", "sigma0", chips)[1].clipped > 0.5
