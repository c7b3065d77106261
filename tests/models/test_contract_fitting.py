"""Fit the contract to the training chips."""

import numpy as np
import pytest

from rsft.backbones import Backbone
from rsft.data.imagery.stretch import CHIP_MAX, IDENTITY_STRETCH
from rsft.errors import DataError, RequestError
from rsft.models.contract_fitting import common_spacing, fit_contract
from rsft.recipe.schema import DataSection


def section(**keys):
    return DataSection(root="x", size=32, **keys)


def encoder(*planes, unit="uint8", mean=0.5, std=0.25):
    return Backbone(
        "toy", "0", None, (mean,) * len(planes), (std,) * len(planes), planes, unit
    )


def sigma0(unit):
    rng = np.random.default_rng(0)
    return [
        rng.gamma(2, [0.05, 0.01], (20, 20, 2)).astype(np.float32) for _ in range(9)
    ]


def must_not_be_called(unit):
    raise AssertionError("these chips need no measuring")


def test_bytes_are_not_measured():
    contract = fit_contract(
        section(),
        encoder("gray", "gray", "gray"),
        ["gray"],
        ["uint8"],
        must_not_be_called,
    )
    assert contract.units == {"uint8": (IDENTITY_STRETCH,) * 3}
    assert contract.mean == (0.5,) * 3 and contract.statistics == {}


def test_percentiles_of_each_plane_in_the_unit_of_the_section():
    planes = encoder("VV", "VH", "VV - VH")
    contract = fit_contract(
        section(unit="db", stretch="percentile"),
        planes,
        ["VV", "VH"],
        ["sigma0"],
        sigma0,
    )
    values = 10 * np.log10(np.stack(sigma0("sigma0")))
    vv, vh, ratio = contract.units["db"]
    assert (vv.low, vv.high) == pytest.approx(
        np.percentile(values[..., 0], [0.5, 99.5]), abs=0.5
    )
    assert vh.low < vv.low
    expected = np.percentile(values[..., 0] - values[..., 1], [0.5, 99.5])
    assert (ratio.low, ratio.high) == pytest.approx(expected, abs=0.5)
    assert contract.statistics["db"][0].mean == pytest.approx(
        values[..., 0].mean(), rel=1e-2
    )


def test_units_without_conversion_have_separate_stretches():
    chips = {"uint8": [], "uint16": [np.full((4, 4, 1), 900, np.uint16)]}
    contract = fit_contract(
        section(), encoder("gray"), ["gray"], ["uint8", "uint16"], chips.__getitem__
    )
    assert contract.units["uint8"] == (IDENTITY_STRETCH,)
    assert contract.units["uint16"][0].high == pytest.approx(900, rel=1e-3)


def test_digital_numbers_declared_as_amplitude():
    declared = section(declare="amplitude", stretch="chip-max")
    contract = fit_contract(
        declared, encoder("VV"), ["VV"], ["uint8"], must_not_be_called
    )
    assert (
        contract.units == {"amplitude": (CHIP_MAX,)} and contract.digital == "amplitude"
    )


def test_missing_calibration():
    chips = [np.full((4, 4, 1), 7, np.uint16)]
    with pytest.raises(DataError, match="amplitude cannot become db") as error:
        fit_contract(
            section(unit="db", declare="amplitude"),
            encoder("VV"),
            ["VV"],
            ["uint16"],
            lambda unit: chips,
        )
    assert "calibration" in error.value.hint


def test_backbone_trained_on_decibels():
    decibel_encoder = encoder("VV", unit="db", mean=-12.5, std=5.0)
    contract = fit_contract(
        section(stretch=[-25.0, 0.0]),
        decibel_encoder,
        ["VV"],
        ["sigma0"],
        must_not_be_called,
    )
    assert list(contract.units) == ["db"]
    assert (contract.mean, contract.std) == ((0.5,), (0.2,))
    contract = fit_contract(section(), decibel_encoder, ["VV"], ["sigma0"], sigma0)
    (stretch,), (statistics,) = contract.units["db"], contract.statistics["db"]
    assert stretch.top is None and stretch.high == pytest.approx(
        10 * np.log10(max(x.max() for x in sigma0("sigma0")))
    )
    assert contract.mean[0] == (-12.5 - stretch.low) / (stretch.high - stretch.low)
    assert statistics.clipped == 0 and contract.clipping_note == ""
    curved = fit_contract(
        section(stretch="log1p"),
        encoder("VV", unit="sigma0", mean=0.1, std=0.2),
        ["VV"],
        ["sigma0"],
        sigma0,
    )
    assert curved.units["sigma0"][0].restored
    assert (curved.mean, curved.std) == ((0.1,), (0.2,))
    for options in ({"unit": "sigma0"}, {"stretch": "chip-max"}):
        with pytest.raises(RequestError):
            fit_contract(
                section(**options), decibel_encoder, ["VV"], ["sigma0"], sigma0
            )


@pytest.mark.parametrize(
    ("spacings", "common"),
    [
        ([], None),
        ([10.0, 10.0], 10.0),
        ([9.5, 10.0, 10.5], 10.0),
        ([10.0, float("nan")], None),
        ([1.0, 10.0], None),
        ([10.0, 10.0, float("nan")], 10.0),
    ],
)
def test_common_spacing_of_all_chips(spacings, common):
    contract = fit_contract(
        section(), encoder("gray"), ["gray"], ["uint8"], must_not_be_called, spacings
    )
    assert contract.spacing_m == common


def test_chip_standard_is_auto_without_moments_of_the_encoder():
    planes = encoder("gray", "gray", "gray")
    contract = fit_contract(
        section(stretch="chip-standard"),
        planes,
        ["gray"],
        ["uint8"],
        must_not_be_called,
    )
    auto = fit_contract(section(), planes, ["gray"], ["uint8"], must_not_be_called)
    moments = {"chip_standard": True, "mean": (0.0,) * 3, "std": (1.0,) * 3}
    assert contract == auto.model_copy(update=moments)


@pytest.mark.parametrize(
    ("sides", "crop", "common"),
    [
        ([512, 512, 40], None, 512),
        ([512, 40], None, 512),
        ([512, 40, 41], None, None),
        ([], None, None),
        ([8], 4, None),
    ],
)
def test_the_side_of_half_of_the_chips_is_common(sides, crop, common):
    planes = encoder("gray", "gray", "gray")
    contract = fit_contract(
        section(crop=crop), planes, ["gray"], ["uint8"], must_not_be_called, sides=sides
    )
    assert contract.side == common and ("side" in contract.model_dump()) == (
        common is not None
    )


def test_chip_standard_measures_what_auto_measures():
    auto = fit_contract(
        section(stretch="auto"), encoder("VV", "VH"), ["VV", "VH"], ["sigma0"], sigma0
    )
    standard = fit_contract(
        section(stretch="chip-standard"),
        encoder("VV", "VH"),
        ["VV", "VH"],
        ["sigma0"],
        sigma0,
    )
    assert (
        standard.units == auto.units
        and standard.statistics == auto.statistics
        and standard.chip_standard
    )


def test_chip_standard_is_refused_for_an_encoder_of_physical_units():
    with pytest.raises(RequestError, match="sigma0") as caught:
        physical = encoder("VV", "VH", unit="sigma0")
        fit_contract(
            section(stretch="chip-standard"), physical, ["VV", "VH"], ["sigma0"], sigma0
        )
    assert caught.value.location == "data.stretch" and caught.value.hint


@pytest.mark.parametrize(
    ("spacings", "common"),
    [
        ([10, 10.5, 11], 10.5),
        ([10, 10, 11.5], None),
        ([10, 10, np.nan], 10),
        ([10, np.nan], None),
        ([], None),
    ],
)
def test_most_chips_have_one_spacing(spacings, common):
    assert common_spacing(spacings) == common
